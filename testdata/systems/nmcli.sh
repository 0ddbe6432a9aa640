#!/bin/bash
# Loads what `lasthop plan -o nmcli` prints into a real NetworkManager, under a
# distribution's own systemd: the kernel then has the routes and rules of
# `lasthop apply` on the same host, but for what the script says it cannot say.
#
# usage: nmcli.sh SUITE...     prints "ok STEP", or "FAIL STEP: why"; needs root
#
# The packages of NetworkManager are in a layer on top of the suite's root, which
# is made once and kept with it.
#
# LAB_WAIT     multiplies every time limit
# KEEP         a directory for what the machines log
set -eu -o pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/clients.sh"

steps="strict outside several unmanaged refused"

outside() { # outside SUITE...
	. "$here/roots.sh"
	"$here/../lab/deps.sh" systems
	local suite failed= dir
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	(cd "$here/../.." && CGO_ENABLED=0 go build -o "$work/lasthop" ./cmd/lasthop)
	for suite in "$@"; do
		prepare "$suite"
		dir=$cache/$suite
		exec 8>"$cache/$suite.lock"
		flock 8
		[ -e "$dir/nm" ] || layer "$dir" >"$work/log" 2>&1 || {
			tail -n 20 "$work/log" >&2
			die "cannot install NetworkManager on $suite"
		}
		flock -s 8
		mkdir "$work/$suite"
		echo once >"$work/$suite/boots"
		cp "$work/lasthop" "$work/$suite"
		"$here/machine.sh" "$dir/nm:$dir/root" "$work/$suite" "$0" >&2
		exec 8>&-
		[ -z "${KEEP:-}" ] || cp -r "$work/$suite" "$KEEP"
		sed -n "s/^\(ok\|FAIL\|version\) /&$suite /p" "$work/$suite/out"
		! grep -q ^FAIL "$work/$suite/out" || failed=yes
		for step in $steps; do
			grep -q "^\(ok\|FAIL\) $step" "$work/$suite/out" || die "$suite: $step was not tried"
		done
	done
	[ -z "$failed" ]
}

# layer DIRECTORY: DIRECTORY/nm, what apt adds to DIRECTORY/root. It starts nothing.
layer() {
	rm -rf "$1/nm.new" "$1/nm.work"
	mkdir "$1/nm.new" "$1/nm.work"
	unshare --mount --propagation private bash -euc '
		mount -t tmpfs tmpfs /mnt
		mkdir /mnt/root
		mount -t overlay -o "lowerdir=$1/root,upperdir=$1/nm.new,workdir=$1/nm.work" overlay /mnt/root
		mount -t proc proc /mnt/root/proc
		mount --bind /dev /mnt/root/dev
		cp /etc/resolv.conf /etc/hosts /mnt/root/etc/
		printf "#!/bin/sh\nexit 101\n" >/mnt/root/usr/sbin/policy-rc.d
		chmod 755 /mnt/root/usr/sbin/policy-rc.d
		export DEBIAN_FRONTEND=noninteractive
		chroot /mnt/root apt-get update
		chroot /mnt/root apt-get install -y --no-install-recommends network-manager
		rm -rf /mnt/root/var/lib/apt/lists/* /mnt/root/var/cache/apt/*.bin' layer "$1"
	rm -rf "$1/nm.work"
	mv "$1/nm.new" "$1/nm"
}

# files ROOT: Ubuntu's NetworkManager manages no wire without the last file.
files() {
	cp "$here"/{nmcli,clients}.sh "$1/"
	units "$1" nmcli.sh
	mkdir -p "$1/etc/NetworkManager/conf.d"
	printf '[main]\nno-auto-default=*\n' >"$1/etc/NetworkManager/conf.d/50-lab.conf"
	: >"$1/etc/NetworkManager/conf.d/10-globally-managed-devices.conf"
	systemctl --root="$1" enable NetworkManager
}

# wire: uplinks eth0 and eth1; eth2 is not NetworkManager's.
wire() {
	local n
	for n in 0 1 2; do
		ip link add eth$n type veth peer name peer$n
		ip link set peer$n up
	done
	printf '[keyfile]\nunmanaged-devices=interface-name:eth2;interface-name:peer*\n' \
		>/etc/NetworkManager/conf.d/60-eth2.conf
}

inside() {
	local n step
	soon nmcli general status
	echo "version $(nmcli --version)"
	for n in 0 1; do
		nmcli connection add type ethernet con-name "uplink $n" ifname eth$n \
			ipv4.method manual ipv4.addresses 10.0.$n.10/24,10.0.$n.100/24 \
			ipv4.gateway 10.0.$n.1 ipv4.route-metric 10$n \
			ipv6.method manual ipv6.addresses 2001:db8:$n::100/64 ipv6.gateway 2001:db8:$n::1
		nmcli connection up "uplink $n"
	done
	soon not grep -q tentative <(ip address)
	for step in $steps; do alone $step; done
	echo end
}

# state: the rules, and the routes of lasthop's tables, without what the script
# cannot say. (The scope of a route that rejects means nothing.)
state() {
	local family
	for family in -4 -6; do
		ip -N $family rule
		ip -N $family route show table all | grep 'table 20[0-9][0-9][0-9]' || :
	done | sed -E 's/ proto (4|76)\b//; s/ suppress_ifgroup 76//; s/ onlink//; /^(unreachable|[678] )/s/ scope [0-9]+//; s/ +$//' | sort
}
is_state() { diff <(echo "$1") <(state); }

# same FLAG...: the script does what apply does, at once, after a restart of the
# connection and of NetworkManager; undo leaves nothing.
same() {
	local none want script=/run/nm.sh
	none=$(state)
	/mnt/job/lasthop apply "$@" >/dev/null
	want=$(state)
	/mnt/job/lasthop clear >/dev/null
	[ "$(wc -l <<<"$want")" -gt $(($(wc -l <<<"$none") + 2)) ] || fail "apply makes nothing: $want"
	now is_state "$none"
	/mnt/job/lasthop plan "$@" -o nmcli >$script
	cp $script /mnt/job/
	now sh $script apply
	soon is_state "$want"
	now sh $script apply # again
	soon is_state "$want"
	now nmcli connection down "uplink 1"
	now nmcli connection up "uplink 1"
	soon is_state "$want"
	systemctl restart NetworkManager
	soon is_state "$want"
	now sh $script undo
	soon is_state "$none"
	now sh $script undo
	soon is_state "$none"
	! nmcli connection show "uplink 1" | grep 'table.20' || fail "it is still in the profile"
}

both="--listen 10.0.1.100:80 --listen [2001:db8:1::100]:80"

# NetworkManager 1.30 has no routes that reject.
do_strict() {
	local closed="--fail-closed eth1"
	case $(nmcli --version) in *" 1.30."*) closed= ;; esac
	same $both --listen 10.0.0.100:80 $closed --direct 10.9.0.0/16
}

# The next hop is in no subnet: NetworkManager needs to be told onlink, too.
do_outside() {
	same --listen 10.0.1.100:80 --gateway eth1=192.0.2.1 --return eth1=main-first
	grep -q "192.0.2.1 .*onlink" /run/nm.sh || fail "the script has no onlink"
}

# Two routers of one metric, and static routes with metrics.
do_several() {
	nmcli connection modify "uplink 1" +ipv4.routes "10.7.0.0/16 10.0.1.7 mtu=1400 initcwnd=20" \
		+ipv4.routes "0.0.0.0/0 10.0.1.2 101" +ipv6.routes "::/0 2001:db8:1::2 500"
	nmcli connection up "uplink 1"
	soon not grep -q tentative <(ip address)
	same $both
}

# A link without a profile: nothing is changed, and the script says why.
do_unmanaged() {
	local none said
	ip address add 10.0.2.100/24 dev eth2
	ip link set eth2 up
	none=$(state)
	/mnt/job/lasthop plan --listen 10.0.1.100:80 --listen 10.0.2.100:80 --gateway eth2=10.0.2.1 -o nmcli >/run/nm.sh
	said=$(sh /run/nm.sh apply 2>&1) && fail "it is applied"
	grep -q "eth2 has no connection profile of NetworkManager" <<<"$said" || fail "it says only: $said"
	now is_state "$none"
}

# A word that NetworkManager does not know: what is changed is taken back.
do_refused() {
	local none said
	none=$(state)
	/mnt/job/lasthop plan $both --listen 10.0.0.100:80 --fail-closed eth1 -o nmcli |
		sed '/modify eth1/,$s/ table=20[0-9]*/& bogus=1/' >/run/nm.sh
	said=$(sh /run/nm.sh apply 2>&1) && fail "it is applied"
	grep -q "error: nothing is changed" <<<"$said" || fail "it says only: $said"
	soon is_state "$none"
	! nmcli connection show "uplink 0" | grep 'table.20' || fail "it is still in the profile"
}

case ${1:-} in
prepare) files "$2" ;;
wire | inside) "$@" ;;
*) outside "$@" ;;
esac
