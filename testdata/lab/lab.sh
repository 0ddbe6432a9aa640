#!/bin/bash
# The lab: a client, a firewall and an NGINX host with three uplinks, in network
# namespaces of its own. It does not touch the machine, and everything vanishes
# with the last process. Used by `make demo` and by cmd/lasthop's TestLab.
#
#    client ────── wan ┌────┐ lan0 ── switch ── eth0 ┌──────┐
#    198.51.100.2      │    │           │            │      │
#    198.51.100.66     │ fw │          lan           │ host │ br0 ── ctr
#                      │    │ lan1 ── switch ── eth1 │ nginx│        172.20.0.2
#                      └────┘ lan2 ── switch ── eth2 └──────┘
#
# On ethN the host is 10.0.N.10, the VIP is 10.0.N.100, the gateway (the firewall) 10.0.N.1; the client in eth0's LAN is
# 10.0.0.50. IPv6 alike: 2001:db8:N::/64, the client 2001:db8:c::2, the container fd00:20::2.
#
# usage: lab.sh possible                 succeeds where this user may make namespaces
#        lab.sh run CMD ARG...           build the lab, run CMD in it, leave with its exit status
# in it: lab.sh at NS CMD ARG...         run CMD in one namespace: client, fw, lan, host, ctr
#        lab.sh probe NS [SRC4 SRC6]     ask every VIP by http, tcp, udp and ping: lines "VIP SERVICE ok|lost"
#        lab.sh left NS                  by which interface each VIP's replies to NS left the host: lines "VIP IFACE PACKETS"
#        lab.sh forget                   count from zero
#        lab.sh drops                    what the firewall has dropped, and why: lines "REASON PACKETS"
#        lab.sh firewall strict|stateful|open
#        lab.sh reverse_path NS 0|1      the strict check of the way back to the source, IPv4 and IPv6
#        lab.sh namespace NS             add one
#        lab.sh cable NS LINK NS LINK    join two
#        lab.sh plug NS LINK N           join one with the switch of ethN
#        lab.sh snapshot                 the host's rules, routes and links, as `ip` prints them
#
# LAB_WAIT, a whole number, multiplies every time limit. Where qemu emulates the processor, use 20.
set -eu
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin

patience=${LAB_WAIT:-1} # seconds
here=$(cd "$(dirname "$0")" && pwd)
vips=(10.0.0.100 2001:db8::100 10.0.1.100 2001:db8:1::100 10.0.2.100 2001:db8:2::100)

die() { echo "lab: error: $*" >&2; exit 1; }

# at: not `ip netns exec` and `ip -n`, which mount things again and need / to be
# a mount.
at() { local ns=$1; shift; nsenter --net="/run/netns/$ns" -- "$@"; }

# unshared CMD...: in new network and mount namespaces; a user other than root
# gets a user namespace around them. As root no mount may spread to the machine:
# the command that makes mounts private runs at the root of the mount namespace,
# since / of a chroot is no mount.
unshared() {
	if [ "$(id -u)" = 0 ]; then
		unshare --net --mount --propagation unchanged -- \
			sh -c 'nsenter --mount=/proc/self/ns/mnt -- mount --make-rprivate / && exec "$@"' lab "$@"
	else
		unshare --user --map-root-user --net --mount -- "$@"
	fi
}

# possible: some systems let a user make a user namespace, but forbid everything
# in it: so try something.
possible() { unshared mount -t tmpfs tmpfs /run; }

run() { unshared "$here/lab.sh" inside "$@"; }

inside() {
	mount -t tmpfs tmpfs /run
	mkdir -p /run/netns /run/lab/nginx
	local ns
	for ns in client fw switch lan host ctr; do namespace $ns; done
	cables
	addresses
	forget
	firewall strict
	start_nginx
	"$@"
}

# namespace NAME: a setting that is made before a link exists holds for all
# links. No duplicate address detection: it takes seconds.
namespace() {
	ip netns add "$1"
	at "$1" ip link set lo up
	at "$1" sh -c 'cd /proc/sys/net
		echo 0 > ipv6/conf/default/accept_dad; echo 0 > ipv6/conf/default/accept_ra
		echo 0 > ipv4/conf/all/rp_filter; echo 0 > ipv4/conf/default/rp_filter'
}

# cables: the switch is a namespace of its own, so that no ruleset ever sees a bridged frame.
cables() {
	local n
	for n in 0 1 2; do
		at switch ip link add sw$n type bridge
		at switch ip link set sw$n up
		plug fw lan$n $n
		plug host eth$n $n
	done
	plug lan eth0 0
	cable client eth0 fw wan
	at host ip link add br0 type bridge
	at host ip link set br0 up
	cable ctr eth0 host veth-ctr
	at host ip link set veth-ctr master br0
}

# plug NS LINK N: join a namespace with the switch of ethN.
plug() {
	cable "$1" "$2" switch "to-$1-$3"
	at switch ip link set "to-$1-$3" master "sw$3"
}

cable() {
	at "$1" ip link add "$2" type veth peer name "$4" netns "$3"
	at "$1" ip link set "$2" up
	at "$3" ip link set "$4" up
}

# addresses: nodad makes them usable immediately. The client's second ones are
# for probes that name them.
addresses() {
	at fw sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
	at fw ip -batch - <<-END
		addr add 198.51.100.1/24 dev wan
		addr add 2001:db8:c::1/64 dev wan nodad
	END
	at client ip -batch - <<-END
		addr add 198.51.100.2/24 dev eth0
		addr add 198.51.100.66/24 dev eth0
		addr add 2001:db8:c::2/64 dev eth0 nodad
		addr add 2001:db8:c::66/64 dev eth0 nodad preferred_lft 0
		route add default via 198.51.100.1
		route add default via 2001:db8:c::1
	END
	at lan ip -batch - <<-END
		addr add 10.0.0.50/24 dev eth0
		addr add 2001:db8:0::50/64 dev eth0 nodad
		route add default via 10.0.0.1
		route add default via 2001:db8:0::1
	END
	at ctr ip -batch - <<-END
		addr add 172.20.0.2/24 dev eth0
		addr add fd00:20::2/64 dev eth0 nodad
		route add default via 172.20.0.1
		route add default via fd00:20::1
	END
	at host ip addr add 172.20.0.1/24 dev br0
	at host ip addr add fd00:20::1/64 dev br0 nodad
	uplink 0 100
	uplink 1 101
	uplink 2 102
}

# uplink N METRIC: three NICs, each with an address and a default route by DHCP and router advertisements, as
# NetworkManager leaves them: metrics 100, 101, 102. So main answers everything by eth0, and knows the other gateways.
uplink() {
	at fw ip -batch - <<-END
		addr add 10.0.$1.1/24 dev lan$1
		addr add 2001:db8:$1::1/64 dev lan$1 nodad
	END
	at host ip -batch - <<-END
		addr add 10.0.$1.10/24 dev eth$1
		addr add 10.0.$1.100/24 dev eth$1
		addr add 2001:db8:$1::10/64 dev eth$1 nodad
		addr add 2001:db8:$1::100/64 dev eth$1 nodad
		route add default via 10.0.$1.1 dev eth$1 proto dhcp metric $2
		route add default via 2001:db8:$1::1 dev eth$1 proto ra metric $2
	END
}

# start_nginx: the real one, of the distribution or of nginx.org (which has stream built in). It dies with the lab.
start_nginx() {
	local modules set
	modules=$(nginx -V 2>&1 | tr ' ' '\n' | sed -n 's/^--modules-path=//p')/ngx_stream_module.so
	set="daemon off; user root;"
	cp "$here/nginx.conf" /run/lab/nginx/
	[ ! -e "$modules" ] || set="load_module $modules; $set"
	nsenter --net=/run/netns/host -- setpriv --pdeathsig TERM \
		nginx -p /run/lab/nginx/ -c nginx.conf -g "$set" 2>/run/lab/nginx/stderr &
	trap "kill $!; wait" EXIT
	local tries=$((50 * patience))
	until [ "$(at host ss -Hltun 'sport = 80 or sport = 9000' | wc -l)" -ge 18 ]; do
		((tries-- > 0)) || { cat /run/lab/nginx/stderr >&2; die "nginx does not listen"; }
		sleep 0.1
	done
}

# firewall MODE. strict: state by interface, and reverse path checks for IPv4 (rp_filter) and IPv6 (nft) on every
# interface. stateful: state only. open: forwards everything.
firewall() {
	at fw nft flush ruleset
	reverse_path fw 0
	case $1 in
	strict) reverse_path fw 1; at fw nft -f "$here/stateful.nft" ;;
	stateful) at fw nft -f "$here/stateful.nft" ;;
	open) ;;
	*) die "firewall $1: want strict, stateful or open" ;;
	esac
}

# reverse_path NS 0|1: the strict check of both families, on every interface.
reverse_path() {
	at "$1" sh -c "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo $2 > \$f; done"
	[ "$2" = 0 ] || at "$1" nft -f "$here/reverse-path6.nft"
}

probe() {
	local ns=$1 src4=${2:-} src6=${3:-} vip service
	{
		for vip in "${vips[@]}"; do
			for service in http tcp udp ping; do
				case $vip in
				*:*) answer "$ns" $service "$vip" "[$vip]" "${src6:+,bind=[$src6]}" "${src6:+-I$src6}" ;;
				*) answer "$ns" $service "$vip" "$vip" "${src4:+,bind=$src4}" "${src4:+-I$src4}" ;;
				esac &
			done
		done
		wait
	} | sort
}

# answer NS SERVICE VIP HOST BIND FROM: one probe, over in a second (times LAB_WAIT).
answer() {
	local ask said=lost
	case $2 in
	http) ask="printf 'GET / HTTP/1.0\r\n\r\n' | timeout $patience socat -t$patience - TCP:$4:80$5 | grep -q 'http $3'" ;;
	tcp) ask="timeout $patience socat -u TCP:$4:9000$5 - | grep -q 'tcp $3'" ;;
	udp) ask="echo ping | timeout $patience socat -t$patience - UDP:$4:9000$5,readbytes=4 | grep -q pong" ;;
	ping) ask="ping -n -c1 -W$patience $6 $3" ;;
	esac
	at "$1" sh -c "$ask" >/dev/null 2>&1 && said=ok
	echo "$3 $2 $said"
}

# left NS: by its addresses, since the host still repeats a lost reply to
# another client for a while.
left() {
	local to
	case $1 in
	client) to='198\.51\.100\.[0-9]+|2001:db8:c:.*' ;;
	lan) to='10\.0\.0\.50|2001:db8::50' ;;
	ctr) to='172\.20\.0\.2|fd00:20::2' ;;
	*) die "left $1: want client, lan or ctr" ;;
	esac
	at host nft list table inet replies | tr ',' '\n' |
		sed -nE "s/.*\"(\S+)\" \. ([0-9a-f.:]+[.:]100) \. ($to) counter packets ([0-9]+).*/\2 \1 \4/p" |
		awk '{n[$1 " " $2] += $3} END {for (k in n) print k, n[k]}' | sort
}

forget() { at host nft -f "$here/count.nft"; }

drops() {
	at fw awk '$1 == "TcpExt:" {
		if (!column) { for (i = 2; i <= NF; i++) if ($i == "IPReversePathFilter") column = i }
		else print "rp_filter", $column }' /proc/net/netstat
	at fw nft list counters | awk '/counter/ {name=$2} /packets/ {print name, $2}'
}

# snapshot: without the parts that change by themselves, the age of a route and
# the timers of a bridge.
snapshot() {
	{
		at host ip -d rule
		at host ip -6 -d rule
		at host ip route show table all
		at host ip -6 route show table all
		at host ip -d link
	} | sed -E 's/ expires -?[0-9]+sec//; s/ [a-z_]+_timer +[0-9.]+//g'
}

command=${1:-}
[ $# = 0 ] || shift
case $command in
possible | run | inside | at | probe | left | forget | drops | firewall | reverse_path | namespace | cable | plug | snapshot) "$command" "$@" ;;
*) sed -n '/^# usage/,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 1 ;;
esac
