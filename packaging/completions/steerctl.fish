# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_steerctl_global_optspecs
    string join \n json netns= pin-dir= v/verbose h/help V/version
end

function __fish_steerctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_steerctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_steerctl_using_subcommand
    set -l cmd (__fish_steerctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c steerctl -n "__fish_steerctl_needs_command" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_needs_command" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_needs_command" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_needs_command" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_needs_command" -s h -l help -d 'Print help'
complete -c steerctl -n "__fish_steerctl_needs_command" -s V -l version -d 'Print version'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "run" -d 'Steer, and stay in the foreground to probe the tunnels and follow the devices'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "attach" -d 'Steer, and return; packets are steered until detach'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "check" -d 'Say what is wrong with a configuration file, or how it differs from what is steered now'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "detach" -d 'Remove everything that steer put on this machine, and nothing else'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "status" -d 'Show groups, tunnels, hooks and counters'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "weights" -d 'Show or change the weights of tunnels; live flows stay where they are, or move with --rebalance'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "drain" -d 'Give a tunnel no new flows; live flows stay until they end'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "undrain" -d 'Give a tunnel in drain new flows again; live flows stay where they are'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "disable" -d 'Take a tunnel out of use: its flows leave at their next packet'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "enable" -d 'Give a tunnel new flows again; live flows stay where they are'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "flows" -d 'List live flows'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "events" -d 'Show what happened: moves of flows, changes by operator, daemon, health and routes, with their reasons'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "explain" -d 'Tell which tunnel a flow uses or would use, and why; creates nothing'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "doctor" -d 'Tell what on this machine would stop steering or make it wrong, and what helps'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "tunnels" -d 'Make parallel tunnels out of one'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "completions" -d 'Print a completion script for a shell'
complete -c steerctl -n "__fish_steerctl_needs_command" -f -a "man" -d 'Print the manual page'
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l config -d 'Configuration file, which names all groups. Without it, and without --iface, --tunnel, --prefix, --follow-routes and --group: /etc/steer/steer.toml, if it is there. Other options go before what it says' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l iface -d 'LAN device whose incoming packets are steered; may be repeated. Without it, those that the group has already' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l tunnel -d 'Tunnel, with weight and id if wanted; may be repeated. Without it, all WireGuard devices' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l prefix -d 'Remote prefix to steer; may be repeated. Without it, what the allowed IPs of all tunnels have in common' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l follow-table -d 'Follow the routes of this table, a name or number; may be repeated. Without it, main' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l follow-protocol -d 'Follow the routes that this protocol made, a name or number (see ip-route(8)); may be repeated. Without it, all but the kernel\'s own' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l group -d 'Group of tunnels to make or change; "default" if not given' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l hook -d 'How to steer: auto, ingress, egress or mark. Without it, as it is; auto at the first start' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l mss-clamp -d 'Lower the MSS of TCP connections: auto, off or a number, 536 to 65495. Without it, as it is; auto at the first start' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l mark-mask -d 'Bits of the packet mark that are steer\'s, for --hook mark and for tunnels of different MTUs: 0xff000000 if not given' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l order -d 'Where to stand among other programs of a device: first or last. Without it, as it is; last at the first start' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l placement -d 'How a new flow gets its tunnel: hash' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l seed -d 'Seed of the flow hash, decimal or 0x…; random and kept if not given' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l max-flows -d 'Size of the flow table; 2 % of the memory if not given, 65536 to 1048576 entries' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l idle -d 'Forget a flow after this time without a packet: 30m, or tcp=2h,udp=5m (tcp, closing, udp, other)' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l attach -d 'How programs are attached: tcx (kernel 6.6), clsact, or what the kernel has' -r -f -a "auto\t'TCX where the kernel has it, else clsact'
tcx\t'TCX or an error'
clsact\t'clsact'"
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l probe-interval -d 'Time between two probes of a tunnel, 20ms to 10s: 200ms if not given. Three that are missed make it down' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l probe-target -d 'Address that answers probes (ICMP echo) through a tunnel; may be repeated, once for each tunnel' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l weights -d 'Where weights come from: as they are given, or from what the tunnels carry, their loss and their round trips' -r -f -a "fixed\t'As they are given'
auto\t'From what the tunnels are measured to carry'"
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l follow-routes -d 'Take the prefixes from the kernel\'s routes instead: each over the tunnels that its route leads through'
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l bypass-netfilter -d 'Steer past netfilter\'s rules that --hook ingress or egress would refuse to bypass'
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l fix -d 'Make the reverse path filter of a tunnel loose where it would drop replies; detach restores it'
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l dry-run -d 'Check everything and say what would be done, but do nothing'
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l no-probe -d 'Send no probes: a tunnel is up as long as its device is'
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l keep -d 'Leave program and maps in place at the end, so that packets are steered on'
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l config -d 'Configuration file, which names all groups. Without it, and without --iface, --tunnel, --prefix, --follow-routes and --group: /etc/steer/steer.toml, if it is there. Other options go before what it says' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l iface -d 'LAN device whose incoming packets are steered; may be repeated. Without it, those that the group has already' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l tunnel -d 'Tunnel, with weight and id if wanted; may be repeated. Without it, all WireGuard devices' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l prefix -d 'Remote prefix to steer; may be repeated. Without it, what the allowed IPs of all tunnels have in common' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l follow-table -d 'Follow the routes of this table, a name or number; may be repeated. Without it, main' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l follow-protocol -d 'Follow the routes that this protocol made, a name or number (see ip-route(8)); may be repeated. Without it, all but the kernel\'s own' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l group -d 'Group of tunnels to make or change; "default" if not given' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l hook -d 'How to steer: auto, ingress, egress or mark. Without it, as it is; auto at the first start' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l mss-clamp -d 'Lower the MSS of TCP connections: auto, off or a number, 536 to 65495. Without it, as it is; auto at the first start' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l mark-mask -d 'Bits of the packet mark that are steer\'s, for --hook mark and for tunnels of different MTUs: 0xff000000 if not given' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l order -d 'Where to stand among other programs of a device: first or last. Without it, as it is; last at the first start' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l placement -d 'How a new flow gets its tunnel: hash' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l seed -d 'Seed of the flow hash, decimal or 0x…; random and kept if not given' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l max-flows -d 'Size of the flow table; 2 % of the memory if not given, 65536 to 1048576 entries' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l idle -d 'Forget a flow after this time without a packet: 30m, or tcp=2h,udp=5m (tcp, closing, udp, other)' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l attach -d 'How programs are attached: tcx (kernel 6.6), clsact, or what the kernel has' -r -f -a "auto\t'TCX where the kernel has it, else clsact'
tcx\t'TCX or an error'
clsact\t'clsact'"
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l follow-routes -d 'Take the prefixes from the kernel\'s routes instead: each over the tunnels that its route leads through'
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l bypass-netfilter -d 'Steer past netfilter\'s rules that --hook ingress or egress would refuse to bypass'
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l fix -d 'Make the reverse path filter of a tunnel loose where it would drop replies; detach restores it'
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l dry-run -d 'Check everything and say what would be done, but do nothing'
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand attach" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c steerctl -n "__fish_steerctl_using_subcommand check" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand check" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand check" -l schema -d 'Print the JSON schema of configuration files instead'
complete -c steerctl -n "__fish_steerctl_using_subcommand check" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand check" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand check" -s h -l help -d 'Print help'
complete -c steerctl -n "__fish_steerctl_using_subcommand detach" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand detach" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand detach" -l dry-run -d 'Say what would be removed, but remove nothing'
complete -c steerctl -n "__fish_steerctl_using_subcommand detach" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand detach" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand detach" -s h -l help -d 'Print help'
complete -c steerctl -n "__fish_steerctl_using_subcommand status" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand status" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand status" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand status" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand status" -s h -l help -d 'Print help'
complete -c steerctl -n "__fish_steerctl_using_subcommand weights" -l group -d 'Group of the tunnels; needed only where no tunnel is named and there are several' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand weights" -l rate -d 'Flows to move in a second; 1000 if not given' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand weights" -l config -d 'Configuration file for --save; without it, that of the steerctl run that is there, else /etc/steer/steer.toml' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand weights" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand weights" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand weights" -l rebalance -d 'Move live flows, too, until the tunnels have their shares: as few as possible, the longest idle first'
complete -c steerctl -n "__fish_steerctl_using_subcommand weights" -l save -d 'Write the weights into the configuration file as well; comments stay'
complete -c steerctl -n "__fish_steerctl_using_subcommand weights" -l dry-run -d 'Show the change and what it does to live flows, but do not make it'
complete -c steerctl -n "__fish_steerctl_using_subcommand weights" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand weights" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand weights" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c steerctl -n "__fish_steerctl_using_subcommand drain" -l timeout -d 'Wait no longer than this, then move the rest to the other tunnels' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand drain" -l rate -d 'Flows to move in a second after --timeout; 1000 if not given' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand drain" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand drain" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand drain" -l wait -d 'Wait until it has no flows left, and show how many there are and how fast they end'
complete -c steerctl -n "__fish_steerctl_using_subcommand drain" -l force -d 'Drain the tunnel although no other one of its group takes new flows'
complete -c steerctl -n "__fish_steerctl_using_subcommand drain" -l dry-run -d 'Show the change, but do not make it'
complete -c steerctl -n "__fish_steerctl_using_subcommand drain" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand drain" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand drain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c steerctl -n "__fish_steerctl_using_subcommand undrain" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand undrain" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand undrain" -l dry-run -d 'Show the change, but do not make it'
complete -c steerctl -n "__fish_steerctl_using_subcommand undrain" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand undrain" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand undrain" -s h -l help -d 'Print help'
complete -c steerctl -n "__fish_steerctl_using_subcommand disable" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand disable" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand disable" -l dry-run -d 'Show the change, but do not make it'
complete -c steerctl -n "__fish_steerctl_using_subcommand disable" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand disable" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand disable" -s h -l help -d 'Print help'
complete -c steerctl -n "__fish_steerctl_using_subcommand enable" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand enable" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand enable" -l dry-run -d 'Show the change, but do not make it'
complete -c steerctl -n "__fish_steerctl_using_subcommand enable" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand enable" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand enable" -s h -l help -d 'Print help'
complete -c steerctl -n "__fish_steerctl_using_subcommand flows" -l tunnel -d 'Only flows on this tunnel' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand flows" -l top -d 'Only the first N of them' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand flows" -l sort -d 'What comes first: most bytes, longest idle, or oldest' -r -f -a "bytes\t'Most bytes of both directions first'
idle\t'Longest without a packet first'
age\t'Oldest first'"
complete -c steerctl -n "__fish_steerctl_using_subcommand flows" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand flows" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand flows" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand flows" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand flows" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c steerctl -n "__fish_steerctl_using_subcommand events" -l since -d 'Only what happened since: a time to look back, or a moment (10m, 2026-02-03T14:05:00Z); 0s for nothing of the past' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand events" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand events" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand events" -s f -l follow -d 'Stay, and show what happens, also after a detach and the next start. With --json, an object on each line'
complete -c steerctl -n "__fish_steerctl_using_subcommand events" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand events" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand events" -s h -l help -d 'Print help'
complete -c steerctl -n "__fish_steerctl_using_subcommand explain" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand explain" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand explain" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand explain" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand explain" -s h -l help -d 'Print help'
complete -c steerctl -n "__fish_steerctl_using_subcommand doctor" -l config -d 'Configuration file to judge; without it, the one that steerctl run goes by, or would' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand doctor" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand doctor" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand doctor" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand doctor" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and not __fish_seen_subcommand_from plan" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and not __fish_seen_subcommand_from plan" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and not __fish_seen_subcommand_from plan" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and not __fish_seen_subcommand_from plan" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and not __fish_seen_subcommand_from plan" -s h -l help -d 'Print help'
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and not __fish_seen_subcommand_from plan" -f -a "plan" -d 'Write the configurations for both ends of parallel tunnels'
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -l from -d 'Configuration of the tunnel that is there, as for wg-quick(8): one peer, no default route' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -l count -d 'Tunnels in all, 2 to 64' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -l out -d 'Directory for the files of this end; where FILE is if not given' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -l peer-out -d 'Directory for the files of the far end, to be taken there; a directory "far" in --out if not given' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -l endpoint -d 'Where the far end reaches this one, with the port of the first tunnel if that is another than FILE listens on. Without it, this end dials' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -l lan -d 'Network behind this end, which the far end is to allow; may be repeated. FILE does not tell' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -l addresses -d 'Network to take the new tunnels\' addresses from, one for each family; what follows the address in FILE if not given' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -l preshared-keys -d 'Give every new tunnel a preshared key; they have one anyway if the tunnel in FILE has'
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -l all-new -d 'Make all N tunnels new ones, beside the one in FILE'
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -l dry-run -d 'Show the files, without their secrets, but write none'
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand tunnels; and __fish_seen_subcommand_from plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c steerctl -n "__fish_steerctl_using_subcommand completions" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand completions" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand completions" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand completions" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand completions" -s h -l help -d 'Print help'
complete -c steerctl -n "__fish_steerctl_using_subcommand man" -l netns -d 'Work in this named network namespace (see ip-netns(8))' -r
complete -c steerctl -n "__fish_steerctl_using_subcommand man" -l pin-dir -d 'Directory of the pinned maps; a bpffs is mounted there if there is none. Two gateways on one machine use two directories' -r -F
complete -c steerctl -n "__fish_steerctl_using_subcommand man" -l json -d 'Print JSON instead of tables'
complete -c steerctl -n "__fish_steerctl_using_subcommand man" -s v -l verbose -d 'Say more on stderr; twice for details of every step'
complete -c steerctl -n "__fish_steerctl_using_subcommand man" -s h -l help -d 'Print help'
