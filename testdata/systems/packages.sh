#!/bin/bash
# What becomes of the deb on a distribution, under its own systemd: from
# `apt install` to `apt purge`, with clients that ask all the time.
#
# usage: packages.sh SUITE...    a table, a line for each suite; needs root
#
# Two versions are built as `make packages` builds them. Each step is a function, do_STEP. While it runs, clients ask every address
# through a router that drops each reply that does not come back by the
# interface that the request went out by. A request is lost if it has no answer,
# or needed a second SYN.
#
# LAB_WAIT     multiplies every time limit
# KEEP         a directory for what the machines log
set -eu -o pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
wait=${LAB_WAIT:-1}

outside() { # outside SUITE...
	. "$here/roots.sh"
	"$here/../lab/deps.sh" systems
	local suite failed=
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	build 1.0.0
	build 1.0.1
	for suite in "$@"; do
		prepare "$suite"
		mkdir "$work/$suite"
		printf 'install it\nagain, for the order of the units\n' >"$work/$suite/boots"
		cp "$work"/lasthop_1.0.[01]_amd64.deb "$work/$suite"
		echo "systems: packages: $suite" >&2
		"$here/machine.sh" "$cache/$suite/root" "$work/$suite" "$0" >&2
		[ -z "${KEEP:-}" ] || cp -r "$work/$suite" "$KEEP"
		grep FAIL "$work/$suite/out" >&2 && failed=yes
		table "$suite" <"$work/$suite/out"
	done
	[ -z "$failed" ]
}

build() { # build VERSION
	VERSION=$1 FORMATS=deb ARCHS=amd64 DIST=$work/$1 "$here/../../deploy/packages/build.sh" >&2
	mv "$work/$1"/*.deb "$work/"
}

# table SUITE: below each step, how many requests were lost of how many; or FAIL.
table() {
	[ -n "${head:-}" ] || printf '%-10s' suite $steps
	head=1
	printf '\n%-10s' "$1"
	awk -v steps="$steps" '{ got[$2] = $1 == "ok" ? $3 "/" $6 : $1 }
		END { n = split(steps, name, " "); for (i = 1; i <= n; i++) printf "%-10s", name[i] in got ? got[name[i]] : "-" }'
	echo
}

# prepare ROOT: two uplinks and NGINX's configuration; lasthop is not there yet.
prepare() {
	local unit
	if [ $# = 0 ]; then return; fi
	cp "$here/packages.sh" "$here/../lab/reverse-path6.nft" "$1/"
	for unit in links job; do $unit >"$1/etc/systemd/system/$unit.service"; done
	rm -f "$1"/etc/nginx/sites-enabled/* "$1"/etc/nginx/modules-enabled/*
	listens 0 1 >"$1/etc/nginx/conf.d/site.conf"
	systemctl --root="$1" enable links job
}

# Beside lasthop, which waits for no link, and before NGINX, which does.
links() {
	cat <<-END
		[Unit]
		DefaultDependencies=no
		After=network-pre.target
		Wants=network.target
		Before=network.target
		[Service]
		Type=oneshot
		RemainAfterExit=yes
		ExecStart=/packages.sh wire
		[Install]
		WantedBy=multi-user.target
	END
}

# The job of a boot that changes units must not hold their target back.
job() {
	cat <<-END
		[Unit]
		After=links.service
		[Service]
		Type=exec
		Environment=LAB_WAIT=$wait
		ExecStart=/bin/sh -c '/packages.sh inside >>/mnt/job/out 2>&1; systemctl poweroff'
		[Install]
		WantedBy=multi-user.target
	END
}

# wire: uplinks eth0 to eth3 of this host, and behind each of them the same
# firewall, whose client is at 203.0.113.9 and 2001:db8:ffff::9. It drops ARP
# that asks from an address of another of its links, and is there before this host
# boots: it asks for no neighbor while it looks for duplicates of its own address.
wire() {
	local n
	sysctl -qw net.ipv4.conf.all.arp_announce=2
	ip netns add fw
	fw sysctl -qw net.ipv6.conf.default.accept_dad=0
	fw ip link set lo up
	fw ip address add 203.0.113.9/32 dev lo
	fw ip address add 2001:db8:ffff::9/128 dev lo
	for n in 0 1 2 3; do
		ip link add eth$n type veth peer name lan$n netns fw
		address add eth$n 100
		ip link set eth$n up
		fw ip address add 10.0.$n.1/24 dev lan$n
		fw ip address add 2001:db8:$n::1/64 dev lan$n nodad
		fw ip link set lan$n up
		fw sysctl -qw net.ipv4.conf.lan$n.rp_filter=1
		# what a router advertisement and a lease leave behind
		ip route add default via 10.0.$n.1 metric $((100 + n))
		ip -6 route add default via 2001:db8:$n::1 metric $((1024 + n))
	done
	fw nft -f /reverse-path6.nft
}

fw() { ip netns exec fw "$@"; }
address() { # address add|del eth1 HOST
	ip address "$1" "10.0.${2#eth}.$3/24" dev "$2"
	ip address "$1" "2001:db8:${2#eth}::$3/64" dev "$2" nodad
}

listens() { # listens N...
	local n
	echo "server {"
	for n in "$@"; do echo "listen 10.0.$n.100:80; listen [2001:db8:$n::100]:80;"; done
	echo 'return 200 "pong\n"; }'
}

fail() { echo "$*"; exit 1; }

# now COMMAND: must work. soon COMMAND: within 10 s. They end the step.
now() { local out; out=$("$@" 2>&1) || fail "$*: $out"; }

soon() {
	local _
	for _ in $(seq $((100 * wait))); do
		! "$@" >/dev/null 2>&1 || return 0
		sleep 0.1
	done
	now "$@"
}

not() { ! "$@"; }
property() { systemctl show -P "$2" "$1" 2>/dev/null || systemctl show --value -p "$2" "$1"; }

# asks N LIMIT: one request of the client to each address of eth$N.
asks() {
	local to out
	for to in "TCP4:10.0.$1.100:80,bind=203.0.113.9" "TCP6:[2001:db8:$1::100]:80,bind=[2001:db8:ffff::9]"; do
		out=$(printf 'GET / HTTP/1.0\r\n\r\n' | timeout "$2" socat -t5 - "$to" 2>&1) || :
		grep -q pong <<<"$out" || { echo "$to: ${out:-no answer}"; return 1; }
	done
}
answers() { fw /packages.sh asks "$1" 0.5; } # no second SYN before 1 s

# clients N...: asks all the time until the file /run/stop is there, and prints
# "asked" and "lost" for each.
clients() {
	local n why
	for n in "$@"; do
		while [ ! -e /run/stop ]; do
			echo asked
			why=$(asks $n $((5 * wait))) || echo "lost: ${why##*$'\n'}"
		done &
	done
	wait
}

# under_load: the clients of `answered` ask while the step runs, and a second
# before and after. Prints "LOST lost of ASKED".
under_load() {
	local before after lost asked step=do_$1
	rm -f /run/stop
	before=$(again)
	fw /packages.sh clients $answered >/run/clients &
	trap "touch /run/stop; wait $!" EXIT
	sleep 1
	("$step") || exit
	sleep 1
	touch /run/stop
	wait $!
	after=$(again)
	asked=$(grep -c asked /run/clients) lost=$(grep -c lost /run/clients || :)
	[ "$lost" = 0 ] && [ "$before" = "$after" ] ||
		fail "$lost of $asked requests were lost, $((after - before)) SYNs sent again" \
			"$(grep -m1 lost /run/clients)"
	echo "0 lost of $((asked * 2))"
}
again() { fw nstat -asz TcpExtTCPSynRetrans | awk '/TCPSynRetrans/ { print $2 }'; }

# try STEP: prints whether it came to its end.
try() {
	local said
	if said=$( (under_load "$1") 2>&1); then
		echo "ok $1 ${said##*$'\n'}"
	else
		echo "FAIL $1: ${said//$'\n'/ | }"
	fi
}

inside() {
	local step
	export DEBIAN_FRONTEND=noninteractive
	if [ ! -e /etc/lasthop ]; then
		answered=0
		now systemctl start nginx
		soon answers 0
		now not answers 1
		for step in $first_boot; do
			case $step in
			reload) answered="0 1" ;;
			dropin) answered="0 1 2" ;;
			settings) answered="0 1 2 3" ;;
			esac
			try $step
		done
	else
		answered="0 1 2 3"
		soon systemctl -q is-active nginx
		for step in $second_boot; do
			[ $step != purge ] || answered="0"
			try $step
		done
	fi
	journalctl -b --no-pager >"/mnt/job/journal.$(wc -l </mnt/job/out)"
	echo end
}

# Nothing starts by itself.
do_install() {
	now apt-get install -y /mnt/job/lasthop_1.0.0_amd64.deb
	now not systemctl -q is-active lasthop
	now not systemctl -q is-enabled lasthop
	now lasthop version
	now lasthop plan
	now not answers 1
}

do_start() {
	now systemctl enable --now lasthop nginx
	soon answers 1
	now lasthop check
}

do_reload() {
	listens 0 1 2 >/etc/nginx/conf.d/site.conf
	now not answers 2
	now systemctl reload nginx
	soon answers 2
}

# What is refused changes nothing, and says why.
do_settings() {
	local file=/etc/lasthop/lasthop.yaml
	cp $file /run/lasthop.yaml
	trap "cp /run/lasthop.yaml $file; systemctl reload lasthop" EXIT
	echo "direct: [198.51.100.0/24]" >>$file
	now systemctl reload lasthop
	now grep -q "to 198.51.100.0/24" <(ip rule)
	echo "gateway: eth1" >>$file
	now not systemctl reload lasthop
	now grep -q "lasthop.yaml:[0-9]*" <(journalctl -b -u lasthop -p err -o cat)
	now grep -q "to 198.51.100.0/24" <(ip rule)
	cp /run/lasthop.yaml $file
	now systemctl reload lasthop
	trap - EXIT
	now not grep -q "to 198.51.100.0/24" <(ip rule)
}

# Where the service does not run, the drop-in of NGINX's unit is enough.
do_dropin() {
	local dir=/etc/systemd/system/nginx.service.d
	now systemctl stop lasthop
	now install -D -m 644 /usr/share/doc/lasthop/nginx.service.d/lasthop.conf $dir/lasthop.conf
	now systemctl daemon-reload
	listens 0 1 2 3 >/etc/nginx/conf.d/site.conf
	now not answers 3
	now systemctl reload nginx
	now answers 3
	rm -r $dir
	now systemctl daemon-reload
	now systemctl start lasthop
	soon lasthop status
}

do_restart() {
	now systemctl restart lasthop
	soon lasthop status
}

do_kill() {
	local pid
	pid=$(property lasthop MainPID)
	now test "$pid" -gt 1
	now kill -9 "$pid"
	soon lasthop status
}

do_upgrade() {
	local before was
	before=$(property lasthop MainPID)
	was=$(lasthop version)
	now apt-get install -y /mnt/job/lasthop_1.0.1_amd64.deb
	now test "$was" != "$(lasthop version)"
	now systemctl -q is-active lasthop
	now systemctl -q is-enabled lasthop
	now test "$before" != "$(property lasthop MainPID)"
	soon lasthop status
	now lasthop check
}

# Before NGINX takes its first request.
do_boot() {
	local ready begun
	soon systemctl -q is-active lasthop nginx
	ready=$(property lasthop ActiveEnterTimestampMonotonic)
	begun=$(property nginx InactiveExitTimestampMonotonic)
	[ "$ready" -le "$begun" ] || fail "NGINX started before lasthop was ready"
	now test "$(property lasthop NRestarts)" = 0
	now lasthop check
}

# The routes stay, and the package says what takes them away.
do_remove() {
	local out
	out=$(apt-get remove -y lasthop 2>&1) || fail "$out"
	grep -q  "sh /run/lasthop-undo/clear.sh" <<<"$out" || fail "it does not say how to remove the routes: $out"
	now not systemctl -q is-active lasthop
	now not test -e /usr/sbin/lasthop
	now test -e /etc/lasthop/lasthop.yaml
}

do_purge() {
	local left
	now apt-get purge -y lasthop
	left=$(ip -N rule | grep "proto 76" || :)$(ip -N -6 rule | grep "proto 76" || :)
	left=$left$(ip -N route show table all | grep "proto 76" || :)
	left=$left$(ip -N -6 route show table all | grep "proto 76" || :)
	left=$left$(find /etc /run /usr /var -name '*lasthop*' ! -path '/run/systemd/*')
	[ -z "$left" ] || fail "left: $left"
	now not answers 1
}

first_boot="install start reload dropin settings restart kill upgrade"
second_boot="boot remove purge"
steps="$first_boot $second_boot"

case ${1:-} in
prepare | wire | asks | clients | inside) "$@" ;;
*) outside "$@" ;;
esac
