#!/bin/bash
# `make demo`: shows in the lab what lasthop does. Fails if a claim does not hold.
#
# usage: demo.sh LASTHOP      the program
set -eu -o pipefail
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin

here=$(cd "$(dirname "$0")" && pwd)
lab=$here/lab.sh
wrong=0

bold='' red='' green='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[m'
fi

main() {
	case $1 in
	inside) shift; story "$@" ;;
	*) start "$(realpath "$1")" ;;
	esac
}

start() {
	local sudo=()
	"$here/deps.sh"
	if ! "$lab" possible 2>/dev/null; then
		[ "$(id -u)" != 0 ] || { echo "lab: error: root may not make namespaces here (no /proc, or a container without --privileged?)" >&2; exit 1; }
		echo "This system does not let users work in namespaces of their own: using sudo to make them." >&2
		sudo=(sudo --preserve-env=NO_COLOR,LAB_WAIT)
	fi
	"${sudo[@]}" "$lab" run "$here/demo.sh" inside "$1"
}

story() {
	lasthop() { "$lab" at host "$lasthop" "$@"; }
	lasthop=$1
	"$lab" snapshot >/run/lab/before

	the_lab
	lost_before
	plan_and_apply
	answers_after
	apply_again
	keep_it_so
	clear_all
	verdict
}

the_lab() {
	heading "The lab: three networks, one firewall, one NGINX"
	sed -n '/^#    client/,/^#  *└/s/^#//p' "$lab"
	cat <<-END

		All of it lives in network namespaces of this process; the machine's own network is not touched.
		The NGINX host has three uplinks, and NGINX listens on a VIP of each: 10.0.N.100 and 2001:db8:N::100 on ethN.
		The firewall drops what comes in by an interface that does not lead back to its source. The host's default
		routes are those that a DHCP client leaves, and the lowest metric wins: every reply leaves by eth0.

	END
	"$lab" at host ip route | sed -n 's/^default/    &/p'
}

lost_before() {
	heading "1. Before: the replies of the VIPs of eth1 and eth2 are lost"
	ask client "$eth0"
	claim "only the VIPs of eth0 answer" answered_by "$eth0"
	claim "every reply left by eth0, whatever interface its request came in by" left_by eth0
	echo "The firewall says why. It dropped:"
	"$lab" drops | sed 's/^rp_filter/    reverse path, IPv4 (rp_filter):/; s/^reverse_path6/    reverse path, IPv6 (nft fib):   /
		/^out_of_state/d'
	claim "the firewall dropped replies of both families" dropped_both
}

plan_and_apply() {
	heading "2. lasthop plan: what apply would change"
	lasthop plan || fail "lasthop plan failed"
	heading "3. lasthop apply"
	lasthop apply | short || fail "lasthop apply failed"
}

# short prints only the first of many lines of `ip`: the plan has shown all.
short() {
	awk '/^  ip / { if (n++ < 2) print; next }
		n > 2 { print "  ... and " n - 2 " more" }
		{ n = 0; print }
		END { if (n > 2) print "  ... and " n - 2 " more" }'
}

answers_after() {
	heading "4. After: every VIP answers, by the interface it was asked by"
	echo "lasthop check:"
	lasthop check --quiet || fail "lasthop check finds something"
	echo
	echo "The client behind the firewall:"
	ask client
	claim "every VIP answers" answered_by "${every[*]}"
	claim "every reply left by the VIP's own interface" left_by own
	echo
	echo "A client in eth0's LAN, whose requests to eth1 and eth2 pass the firewall:"
	ask lan
	claim "every VIP answers" answered_by "${every[*]}"
	claim "every reply left by the VIP's own interface" left_by own
	echo
	echo "A container behind the host's bridge:"
	ask ctr
	claim "every VIP answers" answered_by "${every[*]}"
	claim "every reply left by the bridge" left_by br0
}

apply_again() {
	heading "5. lasthop apply again: there is nothing to do"
	"$lab" snapshot >/run/lab/applied
	lasthop apply || fail "the second lasthop apply failed"
	"$lab" snapshot >/run/lab/again
	claim "rules, routes and links are the same" cmp -s /run/lab/applied /run/lab/again
}

keep_it_so() {
	heading "6. lasthop run: the service keeps it so"
	nsenter --net=/run/netns/host -- "$lasthop" run 2>/run/lab/log &
	local daemon=$!
	claim "the daemon finds everything in place" within in_sync
	echo "Another program deletes rules of lasthop:"
	"$lab" at host sh -c 'for i in 1 2 3; do ip rule del priority 5199; ip -6 rule del priority 5199; done' 2>/dev/null || :
	claim "lasthop puts them back" within restored
	sed -n 's/.*msg="\(deleted by another program, restored\)" op="\(.*\)".*/    \1: \2/p' /run/lab/log | head -n 2
	kill "$daemon"
	claim "the daemon ends without an error" wait "$daemon"
	claim "and leaves rules, routes and links as they are" restored
}

in_sync() { lasthop status >/dev/null 2>&1; }

restored() { "$lab" snapshot | cmp -s /run/lab/applied -; }

# within: within five seconds, times LAB_WAIT.
within() {
	local tries=$((50 * ${LAB_WAIT:-1}))
	until "$@"; do
		((tries-- > 0)) || return 1
		sleep 0.1
	done
}

clear_all() {
	heading "7. lasthop clear: the host is as before"
	lasthop clear | short || fail "lasthop clear failed"
	"$lab" snapshot >/run/lab/after
	diff -u /run/lab/before /run/lab/after || :
	claim "all $(wc -l </run/lab/before) lines of ip rule, ip route show table all and ip link are as before" \
		cmp -s /run/lab/before /run/lab/after
	ask client "$eth0" >/dev/null
	claim "and the replies of eth1 and eth2 are lost again" answered_by "$eth0"
}

verdict() {
	echo
	[ "$wrong" = 0 ] || { echo "${red}$wrong claims did not hold.$plain"; exit 1; }
	echo "${green}Each claim was checked, and nothing is left behind.$plain Next: README.md, or \`./lasthop plan\` on a host of yours (needs no root)."
}

# ask NS [VIPS]: probes every VIP from there and prints a line for each, with
# the interfaces its replies left by. On a busy machine an answer can take too
# long: it asks VIPS that do not answer (by default all) again with more
# patience, twice at most.
every=(10.0.0.100 10.0.1.100 10.0.2.100 2001:db8:1::100 2001:db8:2::100 2001:db8::100)
eth0="10.0.0.100 2001:db8::100"
ask() {
	local vips=${2:-${every[*]}} try
	for try in 1 2 3; do
		"$lab" forget
		LAB_WAIT=$((${LAB_WAIT:-1} * try * try)) "$lab" probe "$1" >/run/lab/answers
		"$lab" left "$1" >/run/lab/left
		[ "$(answering "$vips")" -lt $((4 * $(wc -w <<<"$vips"))) ] || break
	done
	printf '    %-17s %-5s %-5s %-5s %-5s  %s\n' VIP http tcp udp ping "replies left by"
	local vip service said
	for vip in "${every[@]}"; do
		printf '    %-17s' "$vip"
		for service in http tcp udp ping; do
			said=$(awk -v v="$vip" -v s=$service '$1 == v && $2 == s {print $3}' /run/lab/answers)
			if [ "$said" = ok ]; then printf ' %s%-5s%s' "$green" ok "$plain"; else printf ' %s%-5s%s' "$red" lost "$plain"; fi
		done
		awk -v v="$vip" '$1 == v {printf "%s %s (%d packets)", sep, $2, $3; sep = ","} END {print ""}' /run/lab/left
	done
}

# answering VIPS: how many services of the VIPs answer.
answering() { awk -v vips=" $1 " '$3 == "ok" && index(vips, " " $1 " ")' /run/lab/answers | wc -l; }

# The claims. Each reads what the last `ask` found.
answered_by() {
	[ "$(awk '$3 == "ok" {n[$1]++} END {for (v in n) if (n[v] == 4) print v}' /run/lab/answers | sort | xargs)" = "$1" ] &&
		[ "$(grep -c ok /run/lab/answers)" = $((4 * $(wc -w <<<"$1"))) ]
}

# left_by IFACE|own: every VIP has sent, and only by that interface; own is ethN
# for 10.0.N.100 and 2001:db8:N::100.
left_by() {
	awk -v want="$1" '
		{ n = split($1, p, /[.:]+/); own = "eth" (n == 4 ? p[3] : 0) }
		$2 == (want == "own" ? own : want) && $3 > 0 { right++ }
		END { exit !(right == 6 && NR == 6) }' /run/lab/left
}

dropped_both() { [ "$("$lab" drops | awk '/rp_filter|reverse_path6/ && $2 > 0' | wc -l)" = 2 ]; }

claim() {
	local text=$1
	shift
	if "$@"; then echo "  ${green}✓$plain $text"; else fail "not so: $text"; fi
}

fail() {
	echo "  ${red}✗ $1$plain"
	wrong=$((wrong + 1))
}

heading() { printf '\n%s%s%s\n\n' "$bold" "$1" "$plain"; }

main "$@"
