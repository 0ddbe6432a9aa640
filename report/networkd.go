package report

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

// networkdHead says how to install the files, and what differs from `apply`.
const networkdHead = `# Return routes for NGINX on %s, as lasthop %s planned them at %s,
# as drop-ins of systemd-networkd 250 or newer, for a host that lasthop itself does not run on.
# Plan: %s
#
# Each file begins with its name. This writes them all, if this text is the file DROPINS:
#   sudo awk '/^# \/etc\/systemd\/network\// { f = $2; d = f; sub("/[^/]*$", "", d); system("mkdir -p " d) } f { print > f }' DROPINS
#   sudo networkctl reload
# and this takes them back; then, for each interface: sudo ip link set dev NAME group default
#   sudo rm /etc/systemd/network/*.network.d/lasthop.conf
#   sudo networkctl reload
#
# A drop-in adds to the .network file that an interface has, wherever that is: below /etc, or made by netplan below /run. They hold for
# this host as it was: plan again after any change of it, and of nginx.conf.
#
# The kernel gets what lasthop apply would give it, but that networkd marks rules as its own (protocol static). Use one of the two: run
# lasthop clear before you load these files, and delete them before you use lasthop. It would put its rules in front, and its clear would
# take the routes and link groups of these files, but not their rules.
`

// Networkd writes the wanted state as drop-ins for systemd-networkd, one for
// each link; files are the .network files that the links have, see
// host.NetworkFiles. Names that such a file cannot hold are an error: networkd
// would read them as something else. The mode last-hop is an error, too.
func Networkd(w io.Writer, p Plan, files map[string]string) error {
	if len(p.Plan.State.Filters) > 0 {
		return noPrograms("systemd-networkd")
	}
	n := networkd{homes: homesOf(p.Plan), parts: map[string]*output{}}
	n.state(p.Plan.State)
	if len(n.errs) > 0 {
		return errors.Join(n.errs...)
	}
	var b output
	b.printf(networkdHead, Escape(p.Host), Escape(p.Lasthop), utc(p.Time), p.Digest)
	if p.Proof != nil {
		b.printf("#\n# %s\n", Escape(p.Proof.line()))
	}
	if len(n.parts) == 0 {
		b.WriteString("#\n# Nothing is needed: there is no file.\n")
	}
	for _, link := range slices.Sorted(maps.Keys(n.parts)) {
		name, remark := dropIn(link, files)
		b.printf("\n# /etc/systemd/network/%s.d/lasthop.conf\n%s%s", name, remark,
			n.parts[link])
	}
	return b.writeTo(w)
}

// dropIn returns the name of a link's .network file, and a remark if the name
// is unknown.
func dropIn(link string, files map[string]string) (name, remark string) {
	name = path.Base(files[link])
	var sharing []string
	for other, file := range files {
		if other != link && path.Base(file) == name {
			sharing = append(sharing, other)
		}
	}
	slices.Sort(sharing)
	switch {
	case !strings.HasSuffix(name, ".network") || !plain(name):
		return link + ".network",
			fmt.Sprintf("# lasthop does not know the .network file of %s. "+
				"`networkctl status %s` shows it: rename "+
				"this directory after it.\n", link, link)
	case len(sharing) > 0:
		return link + ".network", fmt.Sprintf("# The file %s is also that of %s, which "+
			"must not get the routes of %s.\n# Give %s a copy with [Match] Name=%s, "+
			"with a name that sorts before it, and rename this directory after that.\n",
			name, Escape(some(sharing, 3)), link, link, link)
	}
	return name, ""
}

// networkd collects the sections of each link.
type networkd struct {
	homes
	parts map[string]*output
	hops  map[uint32]int // next hops of a table so far
	errs  []error
}

// homes says whose settings a route or rule belongs to: those of a path's link.
type homes struct {
	linkOf   map[uint32]string       // by table
	fromLink map[netip.Prefix]string // by prefix of sources
}

func homesOf(p routing.Plan) homes {
	h := homes{map[uint32]string{}, map[netip.Prefix]string{}}
	for _, path := range p.Paths {
		h.linkOf[path.Table] = path.Link
		for _, prefix := range path.Prefixes {
			h.fromLink[prefix] = path.Link
		}
	}
	return h
}

func (n *networkd) state(s routing.State) {
	for _, g := range s.Groups {
		n.section(g.Link, "Link", "Group", strconv.Itoa(g.Group))
	}
	n.hops = map[uint32]int{}
	for _, r := range s.Routes {
		n.route(r)
	}
	for _, r := range s.Rules {
		n.rule(r)
	}
}

// section writes a section of pairs of a key and its value; it leaves out a key
// without value. A number 0 has no value: networkd treats a missing setting as
// 0.
func (n *networkd) section(link, name string, settings ...string) {
	n.check(link)
	b := n.parts[link]
	if b == nil {
		b = &output{}
		n.parts[link] = b
	}
	b.printf("[%s]\n", name)
	for pair := range slices.Chunk(settings, 2) {
		if pair[1] != "" {
			b.printf("%s=%s\n", pair[0], pair[1])
		}
	}
}

// check refuses names of links with a special meaning in a file: the end of a
// line, a specifier, a continued line. networkd refuses most of them too
// (ifname_valid_full).
func (n *networkd) check(link string) {
	if !plain(link) {
		n.errs = append(n.errs, fmt.Errorf("write for systemd-networkd: a file of it "+
			"cannot hold the interface name %q", link))
	}
}

func plain(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !alphanumeric(r) && !strings.ContainsRune("._-+@", r)
	}) < 0
}

// rule writes a rule into the file of its path's link. The family is that of
// From. A mark 0 of some bits is an error: networkd would treat it as any mark.
func (n *networkd) rule(r routing.Rule) {
	for _, link := range []string{r.IIF, r.OIF} {
		if link != "" {
			n.check(link)
		}
	}
	mark, action := "", ""
	if r.Mask != 0 {
		mark = fmt.Sprintf("%d/%d", r.Mark, r.Mask)
	}
	if r.Mask != 0 && r.Mark == 0 {
		n.errs = append(n.errs, fmt.Errorf("write for systemd-networkd: it cannot "+
			"express the mark 0 of the rule: %s", r.Args()))
	}
	if r.Action == routing.Goto {
		n.errs = append(n.errs, fmt.Errorf("write for systemd-networkd: it cannot "+
			"express the goto of the rule: %s", r.Args()))
	}
	if r.Action != routing.ToTable {
		action = routing.Way{Type: routing.RouteType(r.Action)}.String()
	}
	settings := []string{"Priority", strconv.Itoa(r.Priority), "From", r.From.String(),
		"To", text(r.To), "FirewallMark", mark, "IncomingInterface", r.IIF,
		"OutgoingInterface", r.OIF, "Type", action, "Table", numeral(r.Table),
		"SuppressPrefixLength", orNone(r.SuppressPrefix),
		"SuppressInterfaceGroup", orNone(r.SuppressGroup)}
	known, _ := r.Selectors()
	for _, s := range known {
		if selectorSettings[s[0]] == "" {
			n.errs = append(n.errs, fmt.Errorf("write for systemd-networkd: it "+
				"cannot express the %s of the rule: %s", s[0], r.Args()))
		}
		settings = append(settings, selectorSettings[s[0]], s[1])
	}
	n.section(n.linkFrom(r.From), "RoutingPolicyRule", settings...)
}

// selectorSettings are networkd's words for the selectors of `ip rule` that are
// not modelled.
var selectorSettings = map[string]string{"tos": "TypeOfService", "uidrange": "User",
	"ipproto": "IPProtocol", "sport": "SourcePort", "dport": "DestinationPort"}

// linkFrom returns the link of the path whose prefixes hold a rule's source: an
// exception may be for a part of one.
func (h homes) linkFrom(from netip.Prefix) string {
	for bits := from.Bits(); bits >= 0; bits-- {
		p, _ := from.Addr().Prefix(bits)
		if link := h.fromLink[p]; link != "" {
			return link
		}
	}
	return ""
}

func orNone(n int) string {
	if n == routing.None {
		return ""
	}
	return strconv.Itoa(n)
}

// route writes a route into the file of its first next hop's link. Several next
// hops become objects of their own: networkd's multipath route has no way to
// express that a gateway is on-link.
func (n *networkd) route(r routing.Route) {
	link, gateway, onlink, group := n.linkOf[r.Table], "", "", 0
	if len(r.Hops) > 0 {
		link = r.Hops[0].Link
	}
	if len(r.Hops) == 1 {
		gateway, onlink = hopSettings(r.Hops[0])
	}
	if len(r.Hops) > 1 {
		group = n.nextHops(r)
	}
	kind, scope := "", ""
	if r.Type != routing.Unicast {
		kind = strings.Fields(routing.Route{RouteKey: r.RouteKey, Type: r.Type}.String())[0]
	} else if r.Family() == routing.IPv4 {
		scope = map[uint8]string{routing.ScopeGlobal: "global", routing.ScopeLink: "link",
			routing.ScopeHost: "host"}[r.Scope]
		scope = cmp.Or(scope, strconv.Itoa(int(r.Scope)))
	}
	n.section(link, "Route", slices.Concat([]string{"Destination", r.Dst.String(),
		"Type", kind, "Gateway", gateway, "GatewayOnLink", onlink,
		"NextHop", numeral(group), "Scope", scope, "Metric", numeral(r.Metric),
		"Table", numeral(r.Table), "Protocol", numeral(r.Protocol),
		"MTUBytes", numeral(r.MTU),
		"TCPAdvertisedMaximumSegmentSize", numeral(r.AdvMSS)}, n.metrics(r))...)
}

// metricSettings are networkd's words for the metrics of `ip route`. HopLimit=
// and TCPRetransmissionTimeoutSec= are new in 255.
var metricSettings = map[string]string{"hoplimit": "HopLimit",
	"initcwnd": "InitialCongestionWindow", "initrwnd": "InitialAdvertisedReceiveWindow",
	"quickack": "QuickAck", "fastopen_no_cookie": "FastOpenNoCookie",
	"congctl": "TCPCongestionControlAlgorithm", "rto_min": "TCPRetransmissionTimeoutSec"}

// metrics are the settings for metrics that are not modelled. A metric that
// networkd has no word for is an error, and so is a lock except for that of
// rto_min, which networkd sets itself.
func (n *networkd) metrics(r routing.Route) (settings []string) {
	all, _ := routing.SplitMetrics(r.Opaque)
	for _, metric := range all {
		words := strings.Fields(metric)
		key := metricSettings[words[0]]
		if key == "" || words[1] == "lock" && words[0] != "rto_min" {
			n.errs = append(n.errs, fmt.Errorf("write for systemd-networkd: it "+
				"cannot express the metric %q of the route to "+
				"%s", metric, r.Dst))
			continue
		}
		settings = append(settings, key, words[len(words)-1])
	}
	return settings
}

// hopSettings writes for every gateway whether it is on-link: if a file holds
// no address, networkd assumes that it is.
func hopSettings(h routing.Hop) (gateway, onlink string) {
	switch {
	case !h.Via.IsValid():
	case h.OnLink:
		onlink = "yes"
	default:
		onlink = "no"
	}
	return text(h.Via), onlink
}

// nextHops writes the next hops of a route and their group, and returns its
// number.
func (n *networkd) nextHops(r routing.Route) int {
	id := func() int {
		n.hops[r.Table]++
		return int(r.Table)*1000 + n.hops[r.Table]
	}
	var members []string
	for _, h := range r.Hops {
		if h.Weight > 255 {
			n.errs = append(n.errs,
				fmt.Errorf("write for systemd-networkd: the weight %d of a next "+
					"hop of %s: it knows 255 at most", h.Weight, r.Dst))
		}
		member := id()
		gateway, onlink := hopSettings(h)
		family := ""
		if gateway == "" {
			family = strings.ToLower(r.Family().String())
		}
		n.section(h.Link, "NextHop", "Id", numeral(member), "Gateway", gateway,
			"Family", family, "OnLink", onlink)
		members = append(members, fmt.Sprintf("%d:%d", member, h.Weight))
	}
	group := id()
	n.section(r.Hops[0].Link, "NextHop", "Id", numeral(group), "Group",
		strings.Join(members, " "))
	return group
}
