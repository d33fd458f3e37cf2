//! The clsact qdisc and its filters.

use steer_user::net::{IngressQdisc, Netlink, TcFilter};

use crate::{Netns, block_on};

#[test]
fn clsact() {
    let Some(netns) = Netns::new("clsact") else {
        return;
    };
    netns.ip("link add lan0 type veth peer name far0");
    netns.ip("link add lan1 type veth peer name far1");
    netns.enter();
    if !netns.exec("tc", &["qdisc", "add", "dev", "lan0", "clsact"]) {
        println!("SKIP clsact: tc qdisc add clsact does not work");
        return;
    }
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        let devices = netlink.devices().await.expect("devices");
        let lan0 = devices.by_name("lan0").expect("lan0").ifindex;
        let lan1 = devices.by_name("lan1").expect("lan1").ifindex;
        let qdisc = async |ifindex| netlink.ingress_qdisc(ifindex).await.expect("qdisc");
        assert_eq!(qdisc(lan0).await, IngressQdisc::Clsact);
        assert_eq!(qdisc(lan1).await, IngressQdisc::Absent);
        netns.exec("tc", &["qdisc", "add", "dev", "lan1", "ingress"]);
        assert_eq!(qdisc(lan1).await, IngressQdisc::Other("ingress".into()));

        assert!(
            netlink
                .clsact_filters(lan0)
                .await
                .expect("filters")
                .is_empty()
        );
        assert!(
            netlink
                .clsact_filters(lan1)
                .await
                .expect("filters")
                .is_empty()
        );
        // One instruction of classic BPF: return -1.
        let add = "filter add dev lan0 egress protocol all prio 7 handle 5 bpf bytecode";
        let mut filter: Vec<&str> = add.split(' ').collect();
        filter.push("1,6 0 0 4294967295");
        assert!(netns.exec("tc", &filter));
        let filters = netlink.clsact_filters(lan0).await.expect("filters");
        assert_eq!(
            filters,
            [TcFilter {
                ingress: false,
                kind: "bpf".into(),
                priority: 7,
                handle: 5,
                // A program of classic BPF has no number.
                program_id: filters.first().and_then(|filter| filter.program_id),
            }]
        );

        netlink.delete_clsact(lan0).await.expect("delete");
        assert_eq!(qdisc(lan0).await, IngressQdisc::Absent);
        let error = netlink
            .delete_clsact(lan0)
            .await
            .expect_err("nothing there");
        assert!(
            error
                .to_string()
                .starts_with(&format!("clsact of device {lan0}: ")),
            "{error}"
        );
    });
}
