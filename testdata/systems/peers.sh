#!/bin/bash
# What lasthop and its peers do in the lab of `make demo`: the table of
# docs/comparison.md. Each peer is set up as its own documentation says, for the
# same NGINX behind the same strict firewall.
#
# usage: peers.sh [PEER...]       recipe networkd keepalived sbr lasthop; prints a line for each
#
# Not in `make test`: it downloads the plugin sbr of CNI, and takes two minutes.
# See `check` for what a column is.
set -eu -o pipefail
export LC_ALL=C LAB_WAIT=${LAB_WAIT:-3} # seconds that a probe may take
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tree=$(cd "$here/../.." && pwd)
lab=$tree/testdata/lab/lab.sh
plugins=github.com/containernetworking/plugins/plugins/meta/sbr@v1.10.0
columns="ipv4 ipv6 nearby container banned listener outside deleted down undone"

die() { echo "peers: error: $*" >&2; exit 1; }

outside() { # outside PEER...
	"$tree/testdata/lab/deps.sh"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	export work CGO_ENABLED=0
	(cd "$tree" && go build -trimpath -o "$work/lasthop" ./cmd/lasthop)
	printf '%-11s' peer $columns
	echo
	local peer row
	for peer in "$@"; do
		[ $peer != sbr ] || (cd "$work" && GOBIN=$work go install $plugins)
		row=$("$lab" run "$here/peers.sh" check $peer 2>"$work/said") || { cat "$work/said" >&2; die "$peer"; }
		echo "$row"
		[ $peer != lasthop ] || [ "$(echo $row)" = "lasthop 12/12 12/12 24/24 24/24 yes yes yes yes yes yes" ] ||
			die "docs/comparison.md says more of lasthop"
	done
}

host() { "$lab" at host "$@"; }
# daemon COMMAND...: instead of a subshell, so that $! is the command. It ends with the row.
daemon() { exec nsenter --net=/run/netns/host -- setpriv --pdeathsig TERM "$@"; }

# answered NS [SOURCE4 SOURCE6]: how many requests of how many were answered; of = a pattern of VIPs.
answered() { "$lab" probe "$@" | awk -v of="${of:-.}" '$1 ~ of { n++; ok += $3 == "ok" } END { print ok "/" n }'; }

# state: all rules but the kernel's own, and the routes of all tables but main and local.
state() {
	local family
	for family in -4 -6; do
		host ip -N $family rule | grep -v 'from all lookup 25[345]' || :
		host ip -N $family route show table all | grep ' table [0-9]' | grep -v ' table 25[45]' || :
	done
}

# soon COMMAND: within 5 s.
soon() {
	local end=$((SECONDS + 5))
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}
leaves() { host ip route get 198.51.100.2 from "$1" 2>/dev/null | grep -q "dev $2 "; } # leaves ADDRESS LINK
yes() { if "$@"; then echo yes; else echo no; fi; }
ask() { "$lab" at client sh -c "printf 'GET / HTTP/1.0\r\n\r\n' | timeout 1 socat -t1 - TCP:$1:80 | grep -q http"; }

# listen ADDRESS/LENGTH: NGINX gets one more listener on eth1 and is reloaded.
listen() {
	host ip address add "$1" dev eth1
	sed -i "s|listen 10.0.1.100:80;|& listen ${1%/*}:80;|" /run/lab/nginx/nginx.conf
	kill -HUP "$(cat /run/lab/nginx/nginx.pid)"
}

# check PEER: prints a row, in the lab.
#   ipv4, ipv6  requests of a client behind the firewall that were answered
#   nearby      of a client in eth0's LAN, for addresses of all links
#   container   of a container behind a bridge of the host
#   banned      a client of whom the administrator has said `ip route add blackhole` has no answer
#   listener    a listener that a reload of NGINX adds, in a subnet of eth1, is answered
#   outside     one in no subnet of the host
#   deleted     a rule that another program deletes is back within 5 s
#   down        the routes are back after `ip link set eth1 down` and up
#   undone      rules and tables are as before after the peer was removed
check() {
	local before
	before=$(state)
	mkdir -p /run/peer
	"start_$1"
	soon leaves 10.0.1.100 eth1 || die "$1 does not work"
	sleep 1
	printf '%-11s' "$1"
	printf '%-11s' "$(of='^10' answered client)" "$(of=: answered client)" "$(answered lan)" "$(answered ctr)"
	host ip route add blackhole 198.51.100.66
	printf '%-11s' "$(yes test "$(of='^10' answered client 198.51.100.66 2001:db8:c::66)" = 0/12)"
	host ip route del blackhole 198.51.100.66
	listen 10.0.1.101/24
	printf '%-11s' "$(yes soon ask 10.0.1.101)"
	"$lab" at fw ip route add 192.0.2.7 via 10.0.1.10
	listen 192.0.2.7/32
	printf '%-11s' "$(yes soon ask 192.0.2.7)"
	delete
	printf '%-11s' "$(yes soon leaves 10.0.1.100 eth1)"
	"restart_$1"
	sleep 2
	soon leaves 10.0.1.100 eth1 || die "$1 does not work again"
	host ip link set eth1 down
	host ip link set eth1 up
	printf '%-11s' "$(yes soon leaves 10.0.1.100 eth1)"
	"stop_$1"
	state >/run/peer/after
	soon unchanged "$before" || diff <(echo "$before") <(state) >&2 || :
	printf '%-11s' "$(yes unchanged "$before")"
}
unchanged() { [ "$(state)" = "$1" ]; }

# delete: another program deletes the last rule for 10.0.1.100.
delete() {
	local rule
	rule=$(host ip -N rule | sed -nE 's/^([0-9]+):\s*(.* )?from (10\.0\.1\.(0|64|96|100)(\/[0-9]+)?) .*/pref \1 from \3/p' | tail -n 1)
	host ip rule del $rule
}

# each DO: DO N for the links eth0 to eth2. further DO: for all but the one that main
# answers by anyway.
each() { local n; for n in 0 1 2; do $1 $n; done; }
further() { local n; for n in 1 2; do $1 $n; done; }

# recipe: the lines of F5's article, for each further interface and both families.
start_recipe() { further recipe; }
recipe() {
	host ip route add default via 10.0.$1.1 dev eth$1 table 10$1
	host ip rule add from 10.0.$1.0/24 table 10$1
	host ip -6 route add default via 2001:db8:$1::1 dev eth$1 table 10$1
	host ip -6 rule add from 2001:db8:$1::/64 table 10$1
}
restart_recipe() {
	stop_recipe
	start_recipe
}
stop_recipe() { further unrecipe 2>/dev/null; }
unrecipe() {
	host ip rule del from 10.0.$1.0/24 table 10$1 || :
	host ip -6 rule del from 2001:db8:$1::/64 table 10$1 || :
	host ip route flush table 10$1 || :
	host ip -6 route flush table 10$1 || :
}

# networkd: a [RoutingPolicyRule] and a [Route] for each further subnet, as in
# systemd.network(5).
start_networkd() {
	local _
	mkdir "$work/network"
	each network
	daemon unshare --mount --propagation private "$tree/testdata/lab/networkd.sh" "$work/network" >/run/peer/bus 2>&1 &
	bus=$!
	soon test -s /run/peer/bus
	networkd
}
# networkd runs in the mount namespace of its bus.
managed() { host nsenter --mount="/proc/$bus/ns/mnt" -- "$@"; }
networkd() {
	daemon nsenter --mount="/proc/$bus/ns/mnt" -- /lib/systemd/systemd-networkd >/run/peer/networkd 2>&1 &
	manager=$!
	soon leaves 10.0.1.100 eth1
}
network() {
	host ip address flush dev eth$1 scope global # as at boot
	cat >"$work/network/eth$1.network" <<-END
		[Match]
		Name=eth$1
		[Network]
		IPv6AcceptRA=no
		Address=10.0.$1.10/24
		Address=10.0.$1.100/24
		[Address]
		Address=2001:db8:$1::10/64
		DuplicateAddressDetection=none
		[Address]
		Address=2001:db8:$1::100/64
		DuplicateAddressDetection=none
	END
	network_lines $1 10.0.$1.1 10.0.$1.0/24 >>"$work/network/eth$1.network"
	network_lines $1 2001:db8:$1::1 2001:db8:$1::/64 >>"$work/network/eth$1.network"
}
network_lines() { # network_lines N GATEWAY SUBNET
	cat <<-END
		[Route]
		Gateway=$2
		Metric=10$1
	END
	[ $1 = 0 ] || cat <<-END
		[Route]
		Gateway=$2
		Table=10$1
		[RoutingPolicyRule]
		From=$3
		Table=10$1
	END
}
restart_networkd() {
	managed networkctl reload
	each reconfigure
}
reconfigure() { managed networkctl reconfigure eth$1; }
stop_networkd() {
	sed -i '/^\[Route\]/,$d' "$work"/network/*.network
	managed networkctl reload
	each reconfigure
	sleep 2
	kill $manager $bus
}

# keepalived: virtual_rules and virtual_routes of an instance that has the VIPs.
start_keepalived() {
	each taken
	{
		printf '%s\n' "vrrp_instance lb {" "state MASTER" "interface eth0" "virtual_router_id 51" "priority 150"
		echo "virtual_ipaddress {"; each kept_addresses; echo "}"
		echo "virtual_ipaddress_excluded {"; each kept_addresses6; echo "}"
		echo "virtual_routes {"; further kept_routes; echo "}"
		echo "virtual_rules {"; further kept_rules; printf '}\n}\n'
	} >/run/peer/keepalived.conf
	keepalived
	soon leaves 10.0.1.100 eth1
	sleep 2
}
taken() { host ip address del 10.0.$1.100/24 dev eth$1; host ip address del 2001:db8:$1::100/64 dev eth$1; }
kept_addresses() { echo "10.0.$1.100/24 dev eth$1"; }
kept_addresses6() { echo "2001:db8:$1::100/64 dev eth$1"; }
kept_routes() {
	echo "default via 10.0.$1.1 dev eth$1 table 10$1"
	echo "default via 2001:db8:$1::1 dev eth$1 table 10$1"
}
kept_rules() {
	echo "from 10.0.$1.100 table 10$1 preference 100$1"
	echo "from 2001:db8:$1::100 table 10$1 preference 100$1"
}
keepalived() {
	daemon keepalived -nlD -f /run/peer/keepalived.conf -p /run/peer/pid -r /run/peer/vrrp >/run/peer/keepalived 2>&1 &
	manager=$!
}
restart_keepalived() {
	kill $manager
	wait $manager || :
	keepalived
}
stop_keepalived() { kill $manager; wait $manager || :; }

# sbr: the plugin, called as a runtime does after the one that made the interface.
start_sbr() { further "plugin ADD"; }
plugin() { # ADD|DEL N
	added "$2" | env CNI_COMMAND=$1 CNI_CONTAINERID=host CNI_NETNS=/run/netns/host CNI_IFNAME=eth$2 \
		CNI_PATH="$work" "$work/sbr" >/run/peer/sbr.$2
}
restart_sbr() { host ip rule add from 10.0.1.100 table 101; } # no second ADD works
stop_sbr() { further "plugin DEL"; }
added() { # what the plugin of the interface has said
	local ips= a
	for a in 10.0.$1.10/24,10.0.$1.1 10.0.$1.100/24,10.0.$1.1 2001:db8:$1::10/64,2001:db8:$1::1 2001:db8:$1::100/64,2001:db8:$1::1; do
		ips+="${ips:+,}{\"address\": \"${a%,*}\", \"gateway\": \"${a#*,}\", \"interface\": 0}"
	done
	echo "{\"cniVersion\": \"1.0.0\", \"name\": \"uplink\", \"type\": \"sbr\", \"prevResult\": {\"cniVersion\": \"1.0.0\",
		\"interfaces\": [{\"name\": \"eth$1\", \"sandbox\": \"/run/netns/host\"}], \"ips\": [$ips]}}"
}

# lasthop: the daemon, with the gateways that the others have in their settings.
start_lasthop() {
	daemon "$work/lasthop" run --config '' --run-dir /run/peer -c /run/lab/nginx/nginx.conf \
		$(each pinned) >/run/peer/log 2>&1 &
	manager=$!
}
pinned() { echo "--gateway eth$1=10.0.$1.1 --gateway eth$1=2001:db8:$1::1"; }
restart_lasthop() { :; }
stop_lasthop() {
	kill $manager
	wait $manager || :
	host "$work/lasthop" clear --config '' --run-dir /run/peer >/dev/null
}

case ${1:-} in
check) "$@" ;;
*) [ $# -gt 0 ] || set -- recipe networkd keepalived sbr lasthop; outside "$@" ;;
esac
