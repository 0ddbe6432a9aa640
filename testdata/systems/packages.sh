#!/bin/bash
# Tests the deb on a distribution, under its own systemd: from `apt install` to
# `apt purge`, with clients that ask all the time.
#
# usage: packages.sh SUITE...    a table, a line for each suite; needs root
#
# The script builds two versions as `make packages` does. Each step is a
# function, do_STEP, that runs while clients of clients.sh ask.
#
# LAB_WAIT     multiplies every time limit
# KEEP         a directory for what the machines log
set -eu -o pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/clients.sh"

outside() { # outside SUITE...
	. "$here/roots.sh"
	"$here/../lab/deps.sh" systems
	local suite failed=
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	debs "$work"
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

# table SUITE: below each step, how many requests were lost of how many; or
# FAIL.
table() {
	[ -n "${head:-}" ] || printf '%-9s' suite $steps
	head=1
	printf '\n%-9s' "$1"
	awk -v steps="$steps" '{ got[$2] = $1 == "ok" ? $3 "/" $5 : $1 }
		END { n = split(steps, name, " "); for (i = 1; i <= n; i++) printf "%-9s", name[i] in got ? got[name[i]] : "-" }'
	echo
}

# files ROOT: uplinks and NGINX's configuration; lasthop is not there yet.
files() {
	cp -r "$here/packages.sh" "$here/clients.sh" "$here/../lab/reverse-path6.nft" "$here/../lab" "$1/"
	rm -f "$1"/etc/nginx/sites-enabled/* "$1"/etc/nginx/modules-enabled/*
	listens 0 1 >"$1/etc/nginx/conf.d/site.conf"
	units "$1" packages.sh
}

# wire: uplinks eth0 to eth3 of this host, and behind each of them the same
# router.
wire() {
	local n
	firewall
	for n in 0 1 2 3; do
		ip link add eth$n type veth peer name lan$n netns fw
		ip address add 10.0.$n.100/24 dev eth$n
		ip address add 2001:db8:$n::100/64 dev eth$n nodad
		ip link set eth$n up
		fw ip address add 10.0.$n.1/24 dev lan$n
		fw ip address add 2001:db8:$n::1/64 dev lan$n nodad
		fw ip link set lan$n up
		# what a lease and a router advertisement leave behind
		ip route add default via 10.0.$n.1 metric $((100 + n))
		ip -6 route add default via 2001:db8:$n::1 metric $((1024 + n))
	done
}

listens() { # listens N...
	local n
	echo "server {"
	for n in "$@"; do echo "listen 10.0.$n.100:80; listen [2001:db8:$n::100]:80;"; done
	echo 'return 200 "pong\n"; }'
}

# behind N...: the clients of eth$N's addresses.
behind() {
	local n
	for n in "$@"; do echo "203.0.113.9>10.0.$n.100" "2001:db8:ffff::9>2001:db8:$n::100"; done
}
is_answered() { answers $(behind "$1"); }

inside() {
	local step
	export DEBIAN_FRONTEND=noninteractive
	if [ ! -e /etc/lasthop ]; then
		groups=$(behind 0)
		now systemctl start nginx
		soon is_answered 0
		now not is_answered 1
		for step in $first_boot; do
			case $step in
			reload) groups=$(behind 0 1) ;;
			dropin) groups=$(behind 0 1 2) ;;
			settings) groups=$(behind 0 1 2 3) ;;
			esac
			try $step
		done
	else
		groups=$(behind 0 1 2 3)
		soon systemctl -q is-active nginx
		for step in $second_boot; do
			[ $step != clear ] || groups=$(behind 0)
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
	now not is_answered 1
}

do_start() {
	now systemctl enable --now lasthop nginx
	soon is_answered 1
	now lasthop check
}

do_reload() {
	listens 0 1 2 >/etc/nginx/conf.d/site.conf
	now not is_answered 2
	now systemctl reload nginx
	soon is_answered 2
}

# Refused settings change nothing, and the service says why.
do_settings() {
	local file=/etc/lasthop/lasthop.yaml
	cp $file /run/settings
	trap "cp /run/settings $file; systemctl reload lasthop" EXIT
	echo "direct: [198.51.100.0/24]" >>$file
	now systemctl reload lasthop
	now grep -q "to 198.51.100.0/24" <(ip rule)
	echo "gateway: eth1" >>$file
	now not systemctl reload lasthop
	now grep -q "lasthop.yaml:[0-9]*" <(journalctl -b -u lasthop -p err -o cat)
	now grep -q "lasthop.yaml:[0-9]*" <(journalctl -u lasthop -p warning)
	now grep -q "lasthop follows NGINX" <(journalctl -u lasthop -x)
	now grep -q '"LASTHOP_OP":.*198.51.100.0/24' <(journalctl -u lasthop -o json)
	now grep -q "to 198.51.100.0/24" <(ip rule)
	cp /run/settings $file
	now systemctl reload lasthop
	trap - EXIT
	now not grep -q "to 198.51.100.0/24" <(ip rule)
}

# If the service does not run, the drop-in of NGINX's unit is enough.
do_dropin() {
	local dir=/etc/systemd/system/nginx.service.d
	now systemctl stop lasthop
	now install -D -m 644 /usr/share/doc/lasthop/nginx.service.d/lasthop.conf $dir/lasthop.conf
	now systemctl daemon-reload
	listens 0 1 2 3 >/etc/nginx/conf.d/site.conf
	now not is_answered 3
	now systemctl reload nginx
	now is_answered 3
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

# With its drop-in, the mode last-hop has programs and maps in the kernel, too.
do_last_hop() {
	now install -D -m 644 /usr/share/doc/lasthop/lasthop.service.d/last-hop.conf \
		/etc/systemd/system/lasthop.service.d/last-hop.conf
	printf 'interfaces:\n  eth1: {return: last-hop}\ntable_names: true\n' >>/etc/lasthop/lasthop.yaml
	now systemctl daemon-reload
	now systemctl restart lasthop
	soon learns
	soon lasthop status
}
learns() { tc filter show dev eth1 ingress | grep -q lasthop/; }

# The kernel's state is the same before and after, and nothing is missing in
# between.
do_upgrade() {
	local before was state
	before=$(property lasthop MainPID) was=$(lasthop version) state=$(installed)
	ip -N monitor rule route >/run/changes 2>&1 &
	trap "kill $!" EXIT
	now apt-get install -y /mnt/job/lasthop_1.0.1_amd64.deb
	now test "$was" != "$(lasthop version)"
	now systemctl -q is-active lasthop
	now systemctl -q is-enabled lasthop
	now test "$before" != "$(property lasthop MainPID)"
	soon lasthop status
	now lasthop check
	[ "$(installed)" = "$state" ] || fail "it was $state, it is $(installed)"
	! grep Deleted /run/changes || fail "something was deleted meanwhile"
}

# Settings that the new program refuses stop no service, and hide nothing from a
# removal.
do_typo() {
	local before file=/etc/lasthop/lasthop.yaml said=/run/said
	before=$(property lasthop MainPID)
	cp $file /run/settings
	echo "bogus: 1" >>$file
	dpkg -i /mnt/job/lasthop_1.0.1_amd64.deb </dev/null >$said 2>&1 || :
	grep -q 'lasthop.yaml:[0-9]*: unknown key "bogus"' $said || fail "it says only: $(cat $said)"
	grep -q 'goes on with the old program' $said || fail "it says only: $(cat $said)"
	now test "$before" = "$(property lasthop MainPID)"
	now systemctl -q is-active lasthop
}

# installed: what lasthop has in the kernel, and names for it.
installed() {
	local family
	for family in -4 -6; do
		ip -N $family rule | grep "proto 76"
		ip -N $family route show table all | grep "proto 76"
	done
	ip -o link show group 76 | cut -d: -f2
	! learns || echo a program
	ls -d /sys/fs/bpf/lasthop /etc/iproute2/rt_tables.d/lasthop.conf 2>/dev/null || :
}

# The lab of `make demo`, in namespaces of its own.
do_demo() {
	now /lab/lab.sh run /lab/demo.sh inside /usr/sbin/lasthop
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

# lasthop's objects stay in the kernel, and the package names the command that
# removes them.
do_remove() {
	local out state
	state=$(installed)
	out=$(apt-get remove -y lasthop 2>&1) || fail "$out"
	grep -q "sh /run/lasthop-undo/clear.sh" <<<"$out" || fail "it does not say how to remove the routes: $out"
	now not systemctl -q is-active lasthop
	now not test -e /usr/sbin/lasthop
	now test -e /etc/lasthop/lasthop.yaml
	[ "$(installed)" = "$state" ] || fail "it was $state, it is $(installed)"
}

do_clear() {
	[ ! -e /run/settings ] || cp /run/settings /etc/lasthop/lasthop.yaml
	now sh /run/lasthop-undo/clear.sh
	now test "$(installed)" = /etc/iproute2/rt_tables.d/lasthop.conf
	now not is_answered 1
}

# Units that the administrator enabled stay enabled.
do_again() {
	now apt-get install -y /mnt/job/lasthop_1.0.1_amd64.deb
	now systemctl -q is-enabled lasthop
	now systemctl start lasthop
	soon is_answered 1
	soon lasthop status
}

# A removal names a daemon that would put removed objects back, and the tool
# that its script lacks.
do_by_hand() {
	local ip said=/run/said daemon
	ip=$(readlink -f "$(command -v ip)")
	now systemctl stop lasthop
	lasthop run >/dev/null 2>&1 &
	daemon=$!
	soon lasthop status
	mv "$ip" "$ip.away"
	dpkg -r lasthop >$said 2>&1 || :
	mv "$ip.away" "$ip"
	kill $daemon
	wait $daemon || :
	grep -q 'a lasthop still runs' $said || fail "it says only: $(cat $said)"
	grep -q 'install iproute2' $said || fail "it says only: $(cat $said)"
}

do_purge() {
	local left
	now apt-get purge -y lasthop
	rm -r /etc/systemd/system/lasthop.service.d # the administrator's
	left=$(installed)$(find /etc /run /usr /var -name '*lasthop*' ! -path '/run/systemd/*')
	[ -z "$left" ] || fail "left: $left"
	now not is_answered 1
}

first_boot="install start reload dropin settings restart kill last_hop upgrade demo"
second_boot="boot typo remove clear again by_hand purge"
steps="$first_boot $second_boot"

case ${1:-} in
prepare) files "$2" ;;
wire | ask | clients | inside) "$@" ;;
*) outside "$@" ;;
esac
