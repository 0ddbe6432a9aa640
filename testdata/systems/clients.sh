# Sourced by the scripts of this folder: their uplinks and steps, and clients
# that ask NGINX all the time while the steps of packages.sh and journey.sh run.
#
# A group of clients is SOURCE>ADDRESS: requests from an address of the network
# namespace fw to port 80 of an address of this host. fw is a router that drops
# each reply that does not come back by the interface that the request went out
# by. A request is lost if it has no answer.
export LC_ALL=C
wait=${LAB_WAIT:-1}
program=$(basename "$0")

fail() { echo "$*"; exit 1; }

# now COMMAND: must work. soon COMMAND: within 10 s, or $seconds. They end the step.
now() { local out; out=$("$@" 2>&1) || fail "$*: $out"; }

soon() {
	local _
	for _ in $(seq $((10 * ${seconds:-10} * wait))); do
		! "$@" >/dev/null 2>&1 || return 0
		sleep 0.1
	done
	now "$@"
}

not() { ! "$@"; }
property() { systemctl show --value -p "$2" "$1"; } # property UNIT NAME
fw() { ip netns exec fw "$@"; }

# uplinks N...: ethN has 10.0.N.100 and the router 10.0.N.1; main's default is by
# eth0.
uplinks() {
	local n
	for n in "$@"; do
		ip link add eth$n type veth peer name peer$n
		ip address add 10.0.$n.100/24 dev eth$n
		ip link set eth$n up
		ip link set peer$n up
	done
	ip route add default via 10.0.0.1
}

# leaves N [M]: replies from the address of ethN leave by ethM, or by ethN.
leaves() { grep -q "via 10.0.${2:-$1}.1 dev eth${2:-$1}" <<<"$(ip route get 203.0.113.9 from "10.0.$1.100")"; }
# ours: what is in the kernel with lasthop's protocol.
ours() { ip -N rule | grep "proto 76" || ip -N route show table all | grep "proto 76"; }

# firewall: the common part of all routers of the labs. It is there before this
# host boots, so it asks for no neighbor while it looks for duplicates of its
# own addresses. It drops ARP that asks from an address of another of its links.
firewall() {
	sysctl -qw net.ipv4.conf.all.arp_announce=2
	ip netns add fw
	fw sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv4.conf.all.rp_filter=1
	fw nft -f /reverse-path6.nft
	fw ip link set lo up
	fw ip address add 203.0.113.9/32 dev lo
	fw ip address add 2001:db8:ffff::9/128 dev lo
}

# ask GROUP LIMIT: one request, in LIMIT seconds. Prints why it was lost.
ask() {
	local out from=${1%>*} to=${1#*>}
	case $to in
	*:*) to="TCP6:[$to]:80,bind=[$from]" ;;
	*) to="TCP4:$to:80,bind=$from" ;;
	esac
	out=$(printf 'GET / HTTP/1.0\r\n\r\n' | timeout "$2" socat -t5 - "$to" 2>&1) || :
	grep -q pong <<<"$out" || { echo "$1: ${out:-no answer}"; return 1; }
}

# answers GROUP...: all of them, now. There is no second SYN before 1 s.
answers() {
	local g
	for g in "$@"; do fw "/$program" ask "$g" 0.5 || return; done
}

# clients TRIES GROUP...: ask until the file /run/stop exists. Prints "asked"
# for each request, and "lost: WHY" for one that was lost that often.
clients() {
	local g _ why
	for g in "${@:2}"; do
		while [ ! -e /run/stop ]; do
			echo asked
			for _ in $(seq "$1"); do
				! why=$(ask "$g" $((5 * wait))) || break
			done
			[ -z "$why" ] || echo "lost: ${why##*$'\n'}"
			sleep 0.05
		done &
	done
	wait
}

again() { fw nstat -asz TcpExtTCPSynRetrans | awk '/TCPSynRetrans/ { print $2 }'; }

# under_load STEP: the clients of `groups` ask while do_STEP runs, and a second
# before and after. Prints "LOST of ASKED lost". `moves` is set if addresses
# move between machines: SYNs may be sent again, and a connection may break
# once.
under_load() {
	local before lost asked
	rm -f /run/stop
	before=$(again)
	fw "/$program" clients "${moves:+2}${moves:-1}" $groups >/run/clients &
	trap "touch /run/stop; wait $!" EXIT
	sleep 1
	("do_$1") || exit
	sleep 1
	touch /run/stop
	wait $!
	again=$(($(again) - before))
	asked=$(grep -c asked /run/clients) lost=$(grep -c lost /run/clients || :)
	[ "$lost" = 0 ] && { [ "$again" = 0 ] || [ -n "${moves:-}" ]; } ||
		fail "$lost of $asked requests were lost, $again SYNs sent again" "$(grep -m1 lost /run/clients)"
	echo "0 of $asked lost"
}

# try STEP: prints whether it reached its end.
try() {
	local said
	if said=$( (under_load "$1") 2>&1); then
		echo "ok $1 ${said##*$'\n'}"
	else
		echo "FAIL $1: ${said//$'\n'/ | }"
	fi
}

# alone STEP [FUNCTION]: as try, without clients. FUNCTION is do_STEP.
alone() {
	local said
	if said=$( ("${2:-do_$1}") 2>&1); then echo "ok $1"; else echo "FAIL $1: ${said//$'\n'/ | }"; fi
}

# unit LINE...: the text of a unit that starts with the machine.
unit() {
	echo "[Unit]"
	printf '%s\n' "$@"
	printf '[Install]\nWantedBy=multi-user.target\n'
}

# units ROOT PROGRAM: PROGRAM wires the links while lasthop starts, which does
# not wait for it, and before NGINX, which does; then it does the job. A job
# that changes units must not delay their target.
units() {
	unit DefaultDependencies=no After=network-pre.target Wants=network.target Before=network.target \
		"[Service]" Type=oneshot RemainAfterExit=yes "ExecStart=/$2 wire" \
		>"$1/etc/systemd/system/links.service"
	unit After=links.service "[Service]" Type=exec "Environment=LAB_WAIT=$wait" \
		"ExecStart=/bin/sh -c '/$2 inside >>/mnt/job/out 2>&1; systemctl poweroff'" \
		>"$1/etc/systemd/system/job.service"
	systemctl --root="$1" enable links job
}
