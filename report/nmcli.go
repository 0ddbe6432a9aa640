package report

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"lasthop/internal/hint"
	"lasthop/routing"
)

// nmcliHead tells how to use the script, and what differs from `apply`.
const nmcliHead = `#!/bin/sh
# Return routes for NGINX on %s, as lasthop %s planned them at %s,
# in the connection profiles of NetworkManager, for a host that lasthop itself does not run on.
# Plan: %s
# Usage: sh lasthop-nm.sh apply|undo, as root. They hold for this host as it was: plan again after any change of it, and of nginx.conf.
#
# The kernel gets what lasthop apply would give it, but that NetworkManager marks routes and rules as its own (protocol static), and that
# a gateway within a subnet of its table is not marked onlink. Use one of the two: run lasthop clear before apply, and undo before you use
# lasthop.
`

// nmcliBody is the part of the script that is the same for all hosts. A
// connection that NetworkManager has made of what it found is no profile.
const nmcliBody = `set -eu
export LC_ALL=C

fail() {
	echo "error: $*" >&2
	exit 1
}

# profile LINK prints the UUID of the profile that LINK has.
profile() {
	state=$(nmcli -g GENERAL.STATE device show "$1") || fail "NetworkManager does not know $1, or does not run"
	uuid=$(nmcli -g GENERAL.CON-UUID device show "$1")
	case $uuid:$state in
	:* | *externally*) fail "$1 has no connection profile of NetworkManager ($state): other software manages it" ;;
	esac
	case $(nmcli -g connection.multi-connect connection show "$uuid") in
	0* | 1*) echo "$uuid" ;;
	*) fail "the connection profile of $1 is for several interfaces: give $1 one of its own" ;;
	esac
}

# modify LINK SETTING VALUE... changes the profile, and what LINK has.
modify() {
	link=$1
	of=$(profile "$link") || return
	shift
	nmcli connection modify "$of" "$@" && nmcli device reapply "$link"
}
`

// nmcliFlush is the end of what changes: NetworkManager leaves routes behind
// that its profiles had, up to 1.46 those with onlink, and after a restart of
// its own those that reject. `ip route flush` spares an unreachable default of
// the highest metric: the kernel has one by itself.
const nmcliFlush = `	for table in%s; do
		[ "$1" = - ] || continue
		ip -4 route flush table $table proto static 2>/dev/null || :
		ip -6 route flush table $table proto static 2>/dev/null || :
		ip -6 route del unreachable default table $table proto static metric 4294967295 \
			2>/dev/null || :
	done
	return $all
}
`

// nmcliTail checks all profiles before it changes one. If a change fails, it
// undoes all changes.
const nmcliTail = `
apply() {
	for each in $links; do profile "$each" >/dev/null; done
	change + || {
		undo || :
		fail "nothing is changed"
	}
}

undo() {
	failed=0
	change - || failed=1
	return $failed
}

case ${1:-} in
apply) apply ;;
undo) undo ;;
*) echo "usage: sh $0 apply|undo" >&2; exit 1 ;;
esac
`

// NMCLI writes the wanted state as a POSIX shell script that puts it into the
// connection profiles of NetworkManager, by nmcli, and takes it out again. The
// script finds the profile of each link itself. The head of the script counts
// what NetworkManager has no word for and the plan works without. Everything
// else is an error, and so are the mode last-hop and names of links that a list
// in a shell cannot hold.
// Source: nm-settings-nmcli(5), ipv4.routes and ipv4.routing-rules.
func NMCLI(w io.Writer, p Plan) error {
	if len(p.Plan.State.Filters) > 0 {
		return noPrograms("NetworkManager")
	}
	n := nmcli{homes: homesOf(p.Plan), state: p.Plan.State,
		settings: map[string][][2]string{}, unsaid: map[string]int{}}
	for _, r := range n.state.Routes {
		n.route(r)
	}
	for _, r := range n.state.Rules {
		n.rule(r)
	}
	n.followsHand(p.Plan.Paths)
	if len(n.errs) > 0 {
		return errors.Join(n.errs...)
	}
	var b output
	b.printf(nmcliHead, Escape(p.Host), Escape(p.Lasthop), utc(p.Time), p.Digest)
	if p.Proof != nil {
		b.printf("# %s\n", Escape(p.Proof.line()))
	}
	n.write(&b)
	return b.writeTo(w)
}

// nmcli collects the settings of each link's profile.
type nmcli struct {
	homes
	state    routing.State
	settings map[string][][2]string // by link: "ipv4.routes" and a value
	tables   []uint32
	unsaid   map[string]int // what is left out, and how often
	errs     []error
}

// followsHand refuses a plan that is less than the rules which the
// administrator has already: those lead all replies by the path's link, also
// those to LANs of other uplinks.
func (n *nmcli) followsHand(paths []routing.Path) {
	for _, p := range paths {
		if p.Source != routing.FromRule || n.unsaid[noIfgroup] == 0 {
			continue
		}
		n.errs = append(n.errs, hint.New(fmt.Errorf("write for NetworkManager: it has "+
			"no word for suppress_ifgroup, without which replies to LANs of other "+
			"uplinks no longer leave by %s as your rules say", p.Link),
			"if they may leave by those uplinks: --return "+p.Link+"=main-first"))
	}
}

// noIfgroup and noGroup say what a plan in the mode strict loses.
const (
	noIfgroup = "suppress_ifgroup of a rule: replies to LANs and static routes of " +
		"other uplinks leave by those, as with --return IF=main-first"
	noGroup = "the link group of an interface: only suppress_ifgroup needs it"
)

func (n *nmcli) write(b *output) {
	n.unsaid[noGroup] = len(n.state.Groups)
	for _, what := range slices.Sorted(maps.Keys(n.unsaid)) {
		if count := n.unsaid[what]; count > 0 {
			b.printf("# NetworkManager cannot say (%d): %s\n", count, what)
		}
	}
	links := slices.Sorted(maps.Keys(n.settings))
	if len(links) == 0 {
		b.WriteString("# Nothing is needed: apply does nothing.\n")
	}
	b.printf("%slinks='%s'\n\n# change +|- adds what the plan wants to the profiles, or "+
		"takes it out.\nchange() {\n\tall=0\n", nmcliBody, strings.Join(links, " "))
	for _, link := range links {
		b.printf("\tmodify %s", link)
		for _, s := range n.settings[link] {
			b.printf(" \\\n\t\t\"${1}%s\" '%s'", s[0], s[1])
		}
		b.WriteString(" || all=1\n")
	}
	b.printf(nmcliFlush, numbers(n.tables))
	b.WriteString(nmcliTail)
}

func numbers(tables []uint32) string {
	text := ""
	for _, t := range tables {
		text += " " + numeral(t)
	}
	return text
}

// set adds a value to a list of the link's profile.
func (n *nmcli) set(link string, f routing.Family, list string, value words) {
	if !plain(link) || strings.HasPrefix(link, "-") {
		n.refuse("a list of the script cannot hold the interface name %q", link)
	}
	setting := strings.ToLower(f.String()) + "." + list
	n.settings[link] = append(n.settings[link],
		[2]string{setting, strings.Join(value, " ")})
}

// refuse reports what NetworkManager has no word for and the plan does not work
// without.
func (n *nmcli) refuse(format string, args ...any) {
	n.errs = append(n.errs, fmt.Errorf("write for NetworkManager: "+format, args...))
}

// words are those of a value.
type words []string

// add adds a key and its value, if there is one.
func (w *words) add(key, value string) {
	if value != "" {
		*w = append(*w, key+value)
	}
}

// route writes a route for the profile of each next hop's link. Several next
// hops are routes of one metric that have weights: NetworkManager 1.42 makes
// one of them, of IPv4 alone.
func (n *nmcli) route(r routing.Route) {
	if !slices.Contains(n.tables, r.Table) {
		n.tables = append(n.tables, r.Table)
	}
	hops := r.Hops
	if len(hops) == 0 {
		hops = []routing.Hop{{Link: n.linkOf[r.Table]}}
	}
	if len(hops) > 1 && r.Family() == routing.IPv6 {
		n.refuse("it has no word for several gateways of the IPv6 route to %s", r.Dst)
	}
	for _, h := range hops {
		if h.Via.IsValid() && routing.FamilyOf(h.Via) != r.Family() {
			n.refuse("it has no word for the IPv6 gateway of the route to %s", r.Dst)
		}
		value := words{r.Dst.String()}
		value.add("", text(h.Via))
		value.add("", strconv.Itoa(int(r.Metric)))
		value.add("table=", numeral(r.Table))
		if r.Type != routing.Unicast {
			value.add("type=", routing.Way{Type: r.Type}.String())
		}
		if h.OnLink && !n.within(r, h) {
			value.add("onlink=", "true")
		}
		if len(hops) > 1 {
			value.add("weight=", strconv.Itoa(h.Weight))
		}
		value.add("mtu=", numeral(r.MTU))
		value.add("advmss=", numeral(r.AdvMSS))
		n.metrics(r, &value)
		n.set(h.Link, r.Family(), "routes", value)
	}
}

// within reports whether a next hop is in a subnet that the route's table has
// on its link: then the kernel takes it without onlink.
func (n *nmcli) within(r routing.Route, h routing.Hop) bool {
	return slices.ContainsFunc(n.state.Routes, func(s routing.Route) bool {
		return s.Table == r.Table && s.Type == routing.Unicast && len(s.Hops) == 1 &&
			s.Hops[0].Link == h.Link && !s.Hops[0].Via.IsValid() && s.Dst.Bits() > 0 &&
			s.Dst.Contains(h.Via)
	})
}

// metrics adds what is not modelled. Replies leave the same way without a
// metric.
func (n *nmcli) metrics(r routing.Route, value *words) {
	all, _ := routing.SplitMetrics(r.Opaque)
	for _, metric := range all {
		m := strings.Fields(metric)
		key, number := m[0], m[len(m)-1]
		_, err := strconv.ParseUint(number, 10, 32)
		lockable := slices.Contains([]string{"mtu", "window", "cwnd", "initcwnd",
			"initrwnd"}, key)
		switch {
		case lockable && err == nil && len(m) == 3:
			value.add("lock-"+key+"=", "true")
			value.add(key+"=", number)
		case lockable && err == nil:
			value.add(key+"=", number)
		case metric == "quickack 1":
			value.add("quickack=", "true")
		default:
			n.unsaid["the metric "+key+" of a route"]++
		}
	}
}

// rule writes a rule for the profile of its path's link. A selector that
// NetworkManager has no word for is an error: without it the rule would match
// too much.
func (n *nmcli) rule(r routing.Rule) {
	if r.Action == routing.Goto || r.Action == routing.Nop {
		n.refuse("it has no word for the action of the rule: %s", r.Args())
	}
	for _, link := range []string{r.IIF, r.OIF} {
		if link != "" && !plain(link) {
			n.refuse("a list of the script cannot hold the interface name %q", link)
		}
	}
	value := words{"priority " + strconv.Itoa(r.Priority)}
	if r.Not {
		value = append(value, "not")
	}
	value.add("from ", r.From.String())
	value.add("to ", text(r.To))
	n.selectors(r, &value)
	if r.Mask != 0 {
		value.add("fwmark ", fmt.Sprintf("%#x/%#x", r.Mark, r.Mask))
	}
	value.add("iif ", r.IIF)
	value.add("oif ", r.OIF)
	value.add("table ", numeral(r.Table))
	value.add("suppress_prefixlength ", orNone(r.SuppressPrefix))
	if r.Action != routing.ToTable {
		value.add("type ", routing.Way{Type: routing.RouteType(r.Action)}.String())
	}
	if r.SuppressGroup != routing.None {
		n.unsaid[noIfgroup]++
	}
	n.set(n.linkFrom(r.From), r.Family, "routing-rules", value)
}

// selectors adds the selectors of `ip rule` that are not modelled.
func (n *nmcli) selectors(r routing.Rule, value *words) {
	known, rest := r.Selectors()
	for _, s := range known {
		switch s[0] {
		case "realms":
			rest = s[0]
		case "ipproto":
			s[1] = strconv.Itoa(int(routing.ProtocolNumber(s[1])))
		}
		value.add(s[0]+" ", s[1])
	}
	if rest != "" {
		n.refuse("it has no word for a selector of the rule: %s", r.Args())
	}
}
