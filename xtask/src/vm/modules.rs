//! The modules of a kernel that the tests may need, with those that they need.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{kernels::Kernel, work::remove_dir};
use crate::process::{line, run};

/// Without these there is no lab, and tests would skip themselves.
const REQUIRED: [&str; 6] = [
    "wireguard",
    "veth",
    "tun",
    "sch_netem",
    "cls_bpf",
    "sch_ingress",
];
/// By their names. What a kernel has built in, or not at all, is left out.
const WANTED: &str = "
    dummy bridge br_netfilter bonding 8021q vrf macvlan ipvlan vxlan ip_gre sit
    ip6_tunnel ipip af_packet
    act_bpf cls_flower cls_u32 cls_matchall act_mirred act_skbedit act_gact
    sch_tbf sch_htb sch_fq sch_fq_codel
    nf_tables nft_ct nft_nat nft_masq nft_redir nft_reject nft_reject_inet nft_limit nft_log nft_fib
    nft_fib_inet nft_flow_offload nft_socket nft_tproxy nft_compat nft_chain_nat nft_counter nft_quota
    nft_hash nft_numgen nft_objref nf_flow_table_inet
    nf_conntrack nf_conntrack_netlink nf_defrag_ipv6
    ip_tables ip6_tables iptable_filter iptable_mangle iptable_nat iptable_raw
    ip6table_filter ip6table_mangle ip6table_nat ip6table_raw
    xt_conntrack xt_mark xt_connmark xt_MASQUERADE xt_TCPMSS xt_set xt_comment xt_tcpudp xt_multiport
    xt_state xt_addrtype xt_policy xt_statistic xt_hashlimit xt_limit xt_recent xt_REDIRECT xt_CT
    xt_NFLOG xt_LOG xt_TPROXY xt_nat xt_physdev
    ip_set ip_set_hash_net ip_set_hash_ip ip_set_bitmap_ip
    inet_diag tcp_diag udp_diag xfrm_user
    virtio_net virtio_pci virtio_rng crc32c_generic libcrc32c
    ";

/// What may end the name of a module's file, and the program that unpacks it to its output.
const PACKED: [(&str, &[&str]); 3] = [
    (".xz", &["xz", "--decompress", "--stdout"]),
    (".zst", &["zstd", "--quiet", "--decompress", "--stdout"]),
    (".gz", &["gzip", "--decompress", "--stdout"]),
];

/// Puts the modules for `kernel` into `dir`, unpacked, with the index that modprobe reads.
pub(crate) fn collect(kernel: &Kernel, dir: &Path) -> Result<()> {
    let below = Path::new("lib/modules").join(&kernel.release);
    let (from, to) = (kernel.tree.join(&below), dir.join(&below));
    remove_dir(dir)?;
    fs::create_dir_all(&to)?;
    let index = from.join("modules.dep");
    let index = fs::read_to_string(&index).with_context(|| index.display().to_string())?;
    // Newer packages have no list of what is built in.
    let built_in = fs::read_to_string(from.join("modules.builtin")).unwrap_or_default();
    if let Some(name) = missing(&index, &built_in) {
        bail!("module {name}: the kernel {} has none", kernel.version);
    }
    for file in closure(
        &index,
        REQUIRED.into_iter().chain(WANTED.split_whitespace()),
    ) {
        let (plain, unpacker) = plain_name(&file);
        let target = to.join(plain);
        if let Some(above) = target.parent() {
            fs::create_dir_all(above)?;
        }
        copy(&from.join(&file), &target, unpacker)?;
    }
    for name in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name))?;
        }
    }
    run(Command::new("depmod")
        .arg("-b")
        .arg(dir)
        .arg(&kernel.release))
}

fn copy(from: &Path, to: &PathBuf, unpacker: Option<&[&str]>) -> Result<()> {
    let Some([program, args @ ..]) = unpacker else {
        fs::copy(from, to).with_context(|| from.display().to_string())?;
        return Ok(());
    };
    let mut command = Command::new(program);
    command.args(args).arg(from);
    let output = command.output().with_context(|| line(&command))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", line(&command), output.status);
    }
    fs::write(to, output.stdout).with_context(|| to.display().to_string())
}

/// A module's file name without what says that it is packed, and what unpacks it.
fn plain_name(file: &str) -> (&str, Option<&'static [&'static str]>) {
    PACKED
        .into_iter()
        .find_map(|(ending, unpacker)| Some((file.strip_suffix(ending)?, Some(unpacker))))
        .unwrap_or((file, None))
}

/// The files of the modules `wanted` and of all that they need, by the text of `modules.dep`:
/// a line for each module, `FILE: FILE …`.
fn closure<'a>(index: &str, wanted: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let needs: BTreeMap<_, _> = index
        .lines()
        .filter_map(|line| line.split_once(':'))
        .collect();
    let by_name: BTreeMap<_, _> = needs
        .keys()
        .map(|file| (module_name(file), *file))
        .collect();
    wanted
        .filter_map(|name| by_name.get(&name.replace('-', "_")))
        // All of them are listed, not only the next.
        .flat_map(|file| [*file].into_iter().chain(needs[file].split_whitespace()))
        .map(str::to_owned)
        .collect()
}

/// A required module that is neither in `modules.dep` nor in `modules.builtin`.
fn missing(index: &str, built_in: &str) -> Option<&'static str> {
    let modules: BTreeSet<_> = index
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, _)| file)
        .chain(built_in.lines())
        .map(module_name)
        .collect();
    REQUIRED.into_iter().find(|name| !modules.contains(*name))
}

/// `kernel/net/a-b.ko.xz` → `a_b`.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_with_what_they_need() {
        let index = "kernel/drivers/net/wireguard/wireguard.ko.xz: kernel/lib/libchacha.ko.xz kernel/net/udp_tunnel.ko.xz\n\
            kernel/lib/libchacha.ko.xz:\nkernel/net/udp_tunnel.ko.xz:\nkernel/lib/crc32c-x.ko.xz:\n\
            kernel/sound/snd.ko.xz:\n";
        let files = closure(index, ["wireguard", "crc32c-x", "not_there"].into_iter());
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        assert_eq!(
            files,
            [
                "kernel/drivers/net/wireguard/wireguard.ko.xz",
                "kernel/lib/crc32c-x.ko.xz",
                "kernel/lib/libchacha.ko.xz",
                "kernel/net/udp_tunnel.ko.xz",
            ]
        );
    }

    #[test]
    fn a_kernel_without_a_required_module_is_refused() {
        let index = REQUIRED.map(|name| format!("kernel/x/{}.ko.xz:\n", name.replace('_', "-")));
        assert_eq!(missing(&index.concat(), ""), None);
        let without_netem = index.concat().replace("sch-netem", "sch-other");
        assert_eq!(missing(&without_netem, ""), Some("sch_netem"));
        assert_eq!(missing(&without_netem, "kernel/net/sch_netem.ko\n"), None);
    }

    #[test]
    fn packed_modules_are_unpacked() {
        assert_eq!(plain_name("a/b.ko"), ("a/b.ko", None));
        for (file, program) in [("b.ko.xz", "xz"), ("b.ko.zst", "zstd"), ("b.ko.gz", "gzip")] {
            let (plain, unpacker) = plain_name(file);
            assert_eq!((plain, unpacker.unwrap()[0]), ("b.ko", program));
        }
    }
}
