package host

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// event returns the change in one message; ok is false if nothing in it counts
// here.
func (s *subscription) event(m syscall.NetlinkMessage) (e Event, ok bool) {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return s.linkEvent(m)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return s.addrEvent(m), true
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return s.routeEvent(m)
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return s.ruleEvent(m)
	case unix.RTM_NEWNETCONF:
		return s.forwardingEvent(m)
	case unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER, unix.RTM_DELQDISC:
		return s.filterEvent(m)
	}
	return e, false
}

// verb returns what became of an object. A message that says "new" may also
// replace or refresh it.
func verb(m syscall.NetlinkMessage) string {
	switch m.Header.Type {
	case unix.RTM_DELADDR, unix.RTM_DELROUTE, unix.RTM_DELRULE, unix.RTM_DELTFILTER,
		unix.RTM_DELQDISC:
		return "deleted"
	case unix.RTM_NEWADDR:
		return "set" // the refresh of a lifetime looks the same
	}
	if m.Header.Flags&unix.NLM_F_REPLACE != 0 {
		return "replaced"
	}
	return "added"
}

// version goes before objects of IPv6, whose text need not hold an address.
func version(f routing.Family) string {
	if f == routing.IPv6 {
		return "IPv6 "
	}
	return ""
}

func (s *subscription) ruleEvent(m syscall.NetlinkMessage) (Event, bool) {
	r, err := decodeRule(m.Data)
	if err != nil {
		return Event{Kind: "rule", Text: fmt.Sprintf("rule %s: %v", verb(m), err)}, true
	}
	own := s.numbers.OwnsRule(r)
	if own && s.echoes.sent(m.Header.Pid) {
		return Event{}, false
	}
	e := Event{Kind: "rule", Text: version(r.Family) + "rule " + verb(m) + ": " +
		strings.ReplaceAll(r.String(), "\t", " ")}
	if own && m.Header.Type == unix.RTM_DELRULE {
		e.Rule = &r
	}
	return e, true
}

// filterEvent reports changes of filters for incoming packets. When the qdisc
// goes, all filters of a link go, and no message names them.
func (s *subscription) filterEvent(m syscall.NetlinkMessage) (Event, bool) {
	h, list, err := decode[tcm](m.Data)
	if err != nil {
		return Event{}, false
	}
	link := s.linkName(int(h.index))
	e := Event{Kind: "filter", Links: []string{link}}
	if m.Header.Type == unix.RTM_DELQDISC {
		e.Text = "qdisc deleted: dev " + link + " " + find(list, tcaKind).string()
		return e, h.parent == clsact
	}
	f, one, err := decodeFilter(h, list, link)
	if err != nil || h.parent != clsactIngress {
		return Event{}, false
	}
	if !one { // all of a preference, or of the link
		e.Text = "filters " + verb(m) + ": dev " + link + " ingress"
		return e, m.Header.Type == unix.RTM_DELTFILTER
	}
	if f.Owned() && s.echoes.sent(m.Header.Pid) {
		return Event{}, false
	}
	e.Text = "filter " + verb(m) + ": " + f.String()
	if f.Owned() && m.Header.Type == unix.RTM_DELTFILTER {
		e.Filter = &f
	}
	return e, true
}

// netconf is struct netconfmsg, as aligned.
type netconf struct {
	family uint8
	_      [3]byte
}

const (
	netconfIndex      = 1 // NETCONFA_IFINDEX; negative for all and default
	netconfForwarding = 2 // NETCONFA_FORWARDING
)

// forwardingEvent reports links on which forwarding begins or ends. For a new
// link the kernel sends every setting at once; the link has an event of its
// own.
func (s *subscription) forwardingEvent(m syscall.NetlinkMessage) (Event, bool) {
	h, list, err := decode[netconf](m.Data)
	link := s.names[int(find(list, netconfIndex).uint())]
	if err != nil || len(list) != 2 || len(find(list, netconfForwarding).value) == 0 ||
		link == "" {
		return Event{}, false
	}
	family := routing.IPv4
	if h.family == unix.AF_INET6 {
		family = routing.IPv6
	}
	return Event{Kind: "forwarding", Links: []string{link},
		Text: fmt.Sprintf("%s forwarding of %s set to %d", family, link,
			find(list, netconfForwarding).uint())}, true
}

// routeEvent leaves out cached routes, and those that the kernel has put into
// table local: the address has an event of its own.
func (s *subscription) routeEvent(m syscall.NetlinkMessage) (Event, bool) {
	h, _, _ := split[unix.RtMsg](m.Data)
	address := uint32(h.Table) == routing.TableLocal && h.Protocol == unix.RTPROT_KERNEL
	if address || h.Flags&unix.RTM_F_CLONED != 0 {
		return Event{}, false
	}
	r, ok, err := decodeRoute(m.Data, names{links: s.names})
	if err != nil {
		return Event{Kind: "route", Text: fmt.Sprintf("route %s: %v", verb(m), err)}, true
	}
	if !ok {
		return Event{Kind: "route",
			Text: "route " + verb(m) + " of an unknown link"}, true
	}
	own := s.numbers.OwnsRoute(r)
	if own && s.echoes.sent(m.Header.Pid) {
		return Event{}, false
	}
	e := Event{Kind: "route", Changed: &r, Came: m.Header.Type == unix.RTM_NEWROUTE,
		Text: version(r.Family()) + "route " + verb(m) + ": " + r.String()}
	if own && m.Header.Type == unix.RTM_DELROUTE {
		e.Route = &r
	}
	return e, true
}

func (s *subscription) addrEvent(m syscall.NetlinkMessage) Event {
	e := Event{Kind: "address"}
	text, err := s.readAddr(m.Data, &e)
	if err != nil {
		text = err.Error()
	}
	e.Text = "address " + verb(m) + ": " + text
	return e
}

// readAddr reads struct ifaddrmsg and attributes into an event, and returns
// them as text: "10.0.1.10/24 dev eth1", "10.9.0.1 peer 10.9.0.2/32 dev tun0".
func (s *subscription) readAddr(b []byte, e *Event) (string, error) {
	h, list, err := decode[unix.IfAddrmsg](b)
	if err != nil {
		return "", fmt.Errorf("decode address: %w", err)
	}
	addr, local, err := addrsOf(list)
	if err != nil {
		return "", fmt.Errorf("decode address: %w", err)
	}
	e.Links = []string{s.linkName(int(h.Index))}
	e.Prefix = netip.PrefixFrom(addr, int(h.Prefixlen))
	text := e.Prefix.String()
	if local.IsValid() && local != addr {
		text = local.String() + " peer " + text
	}
	return text + " dev " + e.Links[0], nil
}

// linkName gives an unknown link the name that `ip` gives it.
func (s *subscription) linkName(index int) string {
	if name, ok := s.names[index]; ok {
		return name
	}
	return fmt.Sprintf("if%d", index)
}

// linkState is the part of a link that counts. The kernel also sends link
// messages for counters, for wireless signals and for much else.
type linkState struct {
	name          string
	flags         uint32 // those of linkFlags
	master, group int
	mtu           uint32
}

const (
	linkUp    = unix.IFF_UP | unix.IFF_LOWER_UP
	linkFlags = linkUp | unix.IFF_POINTOPOINT
)

// decodeLink reads struct ifinfomsg and attributes. ok is false for a message
// of another family: a message of a bridge is about the port, and its "deleted"
// means that the port left the bridge.
func decodeLink(b []byte) (index int, l linkState, ok bool) {
	h, list, err := decode[unix.IfInfomsg](b)
	if err != nil || h.Family != unix.AF_UNSPEC {
		return 0, l, false
	}
	return int(h.Index), linkState{name: find(list, unix.IFLA_IFNAME).string(),
		flags: h.Flags & linkFlags, mtu: find(list, unix.IFLA_MTU).uint(),
		master: int(find(list, unix.IFLA_MASTER).uint()),
		group:  int(find(list, unix.IFLA_GROUP).uint())}, true
}

// learn stores a link as it is, and returns how it was.
func (s *subscription) learn(index int, l linkState) (was linkState, known bool) {
	was, known = s.links[index]
	s.links[index], s.names[index] = l, l.name
	if s.echoes.cameGroup(l.name, l.group) {
		was.group = l.group
	}
	return was, known
}

func (s *subscription) linkEvent(m syscall.NetlinkMessage) (Event, bool) {
	index, l, ok := decodeLink(m.Data)
	switch {
	case !ok:
		return Event{}, false
	case m.Header.Type == unix.RTM_DELLINK:
		delete(s.links, index)
		delete(s.names, index)
		return Event{Kind: "link", Links: s.related(l), Went: true,
			Text: "link " + l.name + " deleted"}, true
	}
	was, known := s.learn(index, l)
	if !known {
		return Event{Kind: "link", Links: s.related(l), Came: true,
			Text: "link " + l.name + " added"}, true
	}
	return Event{Kind: "link", Links: s.related(l, was), Came: l.flags&^was.flags&linkUp != 0,
		Went: was.flags&^l.flags&linkUp != 0 || was.name != l.name,
		Text: "link " + l.name + " " + s.linkChange(was, l)}, was != l
}

// related returns the names of a link, as it is and was, and of its masters.
func (s *subscription) related(states ...linkState) (names []string) {
	for _, l := range states {
		names = append(names, l.name)
		if l.master != 0 {
			names = append(names, s.linkName(l.master))
		}
	}
	return names
}

// linkChange prints the difference: "down", "renamed from eth0, mtu 1400".
func (s *subscription) linkChange(was, is linkState) string {
	var w []string
	changed := was.flags ^ is.flags
	if was.name != is.name {
		w = append(w, "renamed from "+was.name)
	}
	switch {
	case changed&unix.IFF_UP != 0:
		w = append(w, choose(is.flags&unix.IFF_UP != 0, "up", "down"))
	case changed&unix.IFF_LOWER_UP != 0:
		w = append(w, choose(is.flags&unix.IFF_LOWER_UP != 0, "carrier", "no carrier"))
	}
	if changed&unix.IFF_POINTOPOINT != 0 {
		w = append(w, choose(is.flags&unix.IFF_POINTOPOINT != 0, "point-to-point",
			"not point-to-point"))
	}
	if was.master != is.master {
		w = append(w, choose(is.master != 0, "master "+s.linkName(is.master), "nomaster"))
	}
	if was.group != is.group {
		w = append(w, fmt.Sprintf("group %d", is.group))
	}
	if was.mtu != is.mtu {
		w = append(w, fmt.Sprintf("mtu %d", is.mtu))
	}
	return strings.Join(w, ", ")
}

func choose(which bool, yes, no string) string {
	if which {
		return yes
	}
	return no
}
