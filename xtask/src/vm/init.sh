#!/busybox/sh
# Process 1 of the test machine: mounts what a system has, runs what is in /steer/plan, powers off.
# Each step is told on the second serial port.
export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/steer/bin:/busybox HOME=/root TERM=linux
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
# bash gives programs what it computes by these files.
ln -s /proc/self/fd /dev/fd
mkdir -p /dev/pts /dev/shm /run/netns /run/lock /var/run/frr
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# An emulated processor that has to wait for a real one must not drop packets between namespaces.
echo 20000 > /proc/sys/net/core/netdev_max_backlog
mount -t tracefs tracefs /sys/kernel/tracing
mkdir -p /run/netns /run/lock /run/frr
# No mount: the repository may be below it.
mkdir -p /tmp
chmod 1777 /tmp
# Its device file comes with the module, which is loaded by opening the file.
modprobe tun
/usr/sbin/ip link set lo up
exec </dev/null >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw -echo
. /steer/environment

# On a line of its own: a test that was killed leaves the beginning of one.
tell() {
	printf '\n@@ %s\n' "$*"
}

# Runs a test target: NAME SECONDS ARGUMENTS.
job() {
	name=$1 seconds=$2
	shift 2
	tell "begin $name"
	timeout -s KILL "$seconds" "/steer/tests/$name" "$@"
	tell "end $name $? $(cut -d' ' -f1 /proc/uptime)"
}

tell "kernel $(uname -r)"
if [ -e /steer/shell ]; then
	stty -F /dev/ttyS1 sane
	cd /root
	steer-lab up
	echo "steer-lab shell a: a shell on gateway A; steer-lab status; exit: the machine powers off"
	setsid -c bash --login </dev/ttyS1 >/dev/ttyS1 2>&1
else
	. /steer/plan
fi
tell finished
sync
poweroff -f
