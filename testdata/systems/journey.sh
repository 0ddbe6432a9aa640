#!/bin/bash
# Follows docs/getting-started.md to the letter, under a real systemd: from the
# deb and a BIG-IP's archive to a pair, an upgrade and a restart.
#
# usage: journey.sh SUITE     prints "ok STEP LOST of ASKED lost", or FAIL; needs root
#
# At first a BIG-IP holds the addresses and answers. Clients ask all the time:
# from behind the router, from its LANs, and from a LAN for an address of
# another. The script runs each command of the page, and each line that `lasthop
# migrate` prints. What an administrator has to know is in `team`.
#
# LAB_WAIT     multiplies every time limit
# KEEP         a directory for what the machine logs
set -eu -o pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/clients.sh"

vips="10.0.0.110 10.0.1.110 10.0.2.110 2001:db8:1::110 2001:db8:2::110"
members="lb1 host node2"

outside() { # outside SUITE
	. "$here/roots.sh"
	"$here/../lab/deps.sh" systems
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	prepare "$1"
	debs "$work"
	printf 'all but the last step\nthe last step\n' >"$work/boots"
	"$here/machine.sh" "$cache/$1/root" "$work" "$here/journey.sh" >&2
	[ -z "${KEEP:-}" ] || cp -r "$work" "$KEEP/journey"
	grep -E '^(ok|FAIL)' "$work/out" || :
	! grep -q ^FAIL "$work/out"
	for step in $steps; do grep -q "^ok $step " "$work/out" || die "$step was not tried"; done
}

# files ROOT: the page, the archive and the stand-in for the BIG-IP's tmsh.
files() {
	cp "$here"/{journey,clients}.sh "$here/../lab/reverse-path6.nft" "$here/../../docs/getting-started.md" "$1/"
	tar -C "$here" -czf "$1/root/lb1.ucs" --transform 's|^bigip|config|' bigip
	rm -f "$1"/etc/nginx/sites-enabled/* "$1"/etc/nginx/modules-enabled/*
	printf 'server { %s return 200 "pong\\n"; }\n' "listen 10.0.0.10:80;" >"$1/etc/nginx/conf.d/site.conf"
	printf '#!/bin/sh\nexec /journey.sh tmsh "$@"\n' >"$1/usr/sbin/tmsh"
	chmod 755 "$1/usr/sbin/tmsh"
	units "$1" journey.sh
}

# wire: a switch for each VLAN, on which the router has an address, with the
# BIG-IP (.2), this host (.10) and a second one (.11).
wire() {
	local n m at
	firewall
	for m in lb1 node2; do ip netns add $m; done
	for n in 0 1 2; do
		fw ip link add lan$n type bridge
		fw ip address add 10.0.$n.1/24 dev lan$n
		fw ip address add 2001:db8:$n::1/64 dev lan$n nodad
		fw ip link set lan$n up
		for m in $members; do
			at=
			[ $m = host ] || at="netns $m"
			ip link add eth$n $at type veth peer name $m-$n netns fw
			fw ip link set $m-$n master lan$n up
		done
		for m in "lb1 2" "host 10" "node2 11"; do member $m $n; done
	done
	if [ -e /root/moved ]; then return; fi
	on lb1 sysctl -qw net.ipv4.conf.all.arp_notify=1
	for m in $vips; do tmsh modify ltm virtual-address "/Common/$m" arp enabled enabled yes; done
	for n in 0 1 2; do # Auto-Last-Hop, as far as this lab needs it
		on lb1 ip rule add from 10.0.$n.0/24 table $((100 + n))
		on lb1 ip -6 rule add from 2001:db8:$n::/64 table $((100 + n))
		on lb1 ip route add default via 10.0.$n.1 dev eth$n table $((100 + n))
		on lb1 ip -6 route add default via 2001:db8:$n::1 dev eth$n table $((100 + n))
	done
	nginx_in lb1
}

on() { if [ "$1" = host ]; then "${@:2}"; else ip netns exec "$@"; fi; }

member() { # member NAMESPACE HOST N
	on $1 ip address add 10.0.$3.$2/24 dev eth$3
	on $1 ip address add 2001:db8:$3::$2/64 dev eth$3 nodad
	on $1 ip link set eth$3 up
	# what a lease and a router advertisement leave behind; not for net2
	[ $3 != 2 ] || return 0
	on $1 ip route add default via 10.0.$3.1 dev eth$3 metric $((100 + $3))
	on $1 ip -6 route add default via 2001:db8:$3::1 dev eth$3 metric $((1024 + $3))
}

# nginx_in NAMESPACE: an NGINX that answers on all addresses, present or not.
nginx_in() {
	local v
	on $1 sysctl -qw net.ipv4.ip_nonlocal_bind=1 net.ipv6.ip_nonlocal_bind=1
	mkdir -p "/srv/$1"
	{
		echo "user root; pid /srv/$1/pid; error_log /srv/$1/log; events {} http { access_log off; server {"
		for v in $vips; do echo "listen $(brackets $v):80;"; done
		echo 'return 200 "pong\n"; } }'
	} >"/srv/$1/nginx.conf"
	on $1 nginx -c "/srv/$1/nginx.conf"
}

brackets() { case $1 in *:*) echo "[$1]" ;; *) echo "$1" ;; esac; }
link_of() { case $1 in 10.0.*) set -- "${1#10.0.}" && echo "eth${1%%.*}" ;; *) set -- "${1#2001:db8:}" && echo "eth${1%%:*}" ;; esac; }

# tmsh: the BIG-IP's reaction to the command to serve an address, or no longer.
tmsh() {
	local addr=${4#/Common/}
	case "$*" in
	"modify ltm virtual-address "*" arp enabled enabled yes") on lb1 ip address add "$addr" dev "$(link_of "$addr")" nodad ;;
	"modify ltm virtual-address "*" arp disabled enabled no") on lb1 ip address del "$addr" dev "$(link_of "$addr")" ;;
	*) echo "tmsh: not understood: $*" >&2; return 1 ;;
	esac
}

# page TITLE [PATTERN]: runs the commands of a section of the page, in their
# order, or those that match. A block that begins with vrrp_instance is
# keepalived's.
page() {
	local commands
	commands=$(awk -v title="## $1" '
		/^## / { here = $0 ~ "^" title }
		here && /^    / { sub(/^    /, ""); print }
		here && /^$/ { print }' /getting-started.md)
	[ -n "${commands//$'\n'/}" ] || fail "the page has no section $1"
	if grep -q ^vrrp_instance <<<"$commands"; then
		sed -n '/^vrrp_instance/,/^}/p' <<<"$commands" >/etc/keepalived/keepalived.conf
		commands=$(sed '/^vrrp_instance/,/^}/d' <<<"$commands")
	fi
	while IFS= read -r line; do
		[[ -z $line || $line != *${2:-}* ]] || run "$line"
	done <<<"$commands"
}

# run LINE: as an administrator does, who reads what it prints. Exit status 2 of
# lasthop means that something needs attention; the caller has to expect it.
run() {
	local status=0
	echo "# $1"
	(cd /root && bash -c "$1") 2>&1 || status=$?
	[ $status = 0 ] || { [ $status = 2 ] && [ "${expect:-}" = 2 ]; } || fail "$1: exit status $status"
}

# follow PHASE: does what the report of migrate says under that heading, and
# what the team knows if the report asks.
follow() {
	local where= line commands= file=/run/steps
	(cd /root && lasthop migrate lb1.ucs) >/run/report 2>&1 || [ $? = 2 ] || fail "$(cat /run/report)"
	awk -v phase="$1" '/^[A-Z]/ { here = $0 == phase } here' /run/report >$file
	while IFS= read -r line; do
		case $line in
		"  "[0-9]*". "*) step; where=${line#*. } commands= ;;
		"       "*) commands+=${line#       }$'\n' ;;
		esac
	done <$file
	step
}

step() {
	[ -n "$commands" ] || return 0
	case $where in
	"In nginx.conf:"*) sed -i "s|server {|server { ${commands//$'\n'/ }|" /etc/nginx/conf.d/site.conf ;;
	"In /etc/lasthop/lasthop.yaml:"*) printf '%s' "$commands" | team >/etc/lasthop/lasthop.yaml ;;
	"On this host:"* | "On the BIG-IP:"*) run "set -e; $commands" ;;
	*) fail "a step for $where" ;;
	esac
}

# team: what only the network team knows.
team() { sed 's|gateways: \[\] .*|gateways: [10.0.2.1, "2001:db8:2::1"]|'; }

do_install() { page "1. Install"; }
do_look() { expect=2 page "2. Look first"; }
do_prepare() {
	follow "Before the cut-over"
	page "3. Start"
	(cd /root && lasthop migrate lb1.ucs) >/run/report || fail "$(cat /run/report)"
}
do_cut_over() {
	follow "Cut-over"
	page "4. Cut over from a BIG-IP"
	now has_all host
	touch /root/moved
}

# Three reloads, with other listeners each time.
do_reload() {
	local listen v
	for listen in "listen 10.0.0.10:81;" "listen 10.0.1.10:82; listen 10.0.2.10:82;" ""; do
		sed -i "s|^server {.*# changed|server { $listen # changed|; t; s|^server {|server { $listen # changed\n|" /etc/nginx/conf.d/site.conf
		page "5. Reload NGINX"
		now lasthop check
	done
}

# The second host is prepared as the first, in a namespace.
do_pair() {
	mkdir -p /srv/node2
	cp /etc/lasthop/lasthop.yaml /srv/node2/lasthop.yaml
	page "6. Two hosts with keepalived"
	sed 's/priority 150/priority 100/; s/state MASTER/state BACKUP/' /etc/keepalived/keepalived.conf \
		>/srv/node2/keepalived.conf
	second_host
	soon has_all host
}

second_host() {
	nginx_in node2
	systemd-run -q --unit=node2-lasthop ip netns exec node2 lasthop run --config /srv/node2/lasthop.yaml
	soon lasthop --netns node2 status
	systemd-run -q --unit=node2-keepalived ip netns exec node2 keepalived -nl -f /srv/node2/keepalived.conf \
		-p /run/node2.pid -r /run/node2-vrrp.pid
}

has_all() { # has_all NAMESPACE: and no other member has one
	local v m
	for v in $vips; do
		for m in $members; do
			if on $m ip -o address | grep -qF " $v/"; then [ $m = $1 ]; else [ $m != $1 ]; fi || return
		done
	done
}

do_failover() {
	page "7. Fail over" stop
	soon has_all node2
	soon answers $groups
}

do_failback() {
	page "7. Fail over" start
	soon has_all host
	soon answers $groups
	now lasthop check
}

do_upgrade() {
	page "8. Upgrade"
	now test "$(property lasthop ActiveState)" = active
	soon lasthop status
}

do_restart() {
	page "9. Restart the host" lasthop
	now test "$(property lasthop NRestarts)" = 0
}

do_remove() { page "Remove"; }

first="install look prepare cut_over reload pair failover failback upgrade"
second="restart remove"
steps="$first $second"

inside() {
	local v n step
	export DEBIAN_FRONTEND=noninteractive
	cp /mnt/job/*.deb /root/
	groups=
	for v in $vips; do
		n=$(link_of $v) n=${n#eth}
		case $v in # from behind the router, from the LAN, and from another LAN
		*:*) groups+="2001:db8:ffff::9>$v 2001:db8:$n::1>$v 2001:db8::1>$v " ;;
		*) groups+="203.0.113.9>$v 10.0.$n.1>$v 10.0.$(((n + 1) % 3)).1>$v " ;;
		esac
	done
	if [ ! -e /root/moved ]; then
		now systemctl start nginx
		soon answers $groups
		for step in $first; do
			moves=
			case $step in cut_over | pair | failover | failback) moves=1 ;; esac
			try $step
		done
		page "9. Restart the host" reboot
		sleep 60
	fi
	trap 'journalctl -b --no-pager >/mnt/job/journal' EXIT
	second_host
	seconds=40 soon has_all host # keepalived starts after 10 s
	soon answers $groups
	for step in $second; do try $step; done
	echo end
}

case ${1:-} in
prepare) files "$2" ;;
wire | ask | clients | inside | tmsh) "$@" ;;
*) outside "$@" ;;
esac
