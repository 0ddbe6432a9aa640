package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// DNAT is a rule of the packet filter that changes the destination of packets
// for an address. The kernel routes the replies before it translates their
// source back: by the address To.
type DNAT struct {
	In        string         // the link that they come in by, "eth*", "!eth0"; "": any
	Addrs     []netip.Prefix // none: any
	Transport string         // "tcp", "udp"; "": any
	First     uint16         // ports, 0 and 0: any
	Last      uint16
	To        netip.Addr // the zero Addr if it is not literal
	Redirect  bool       // to the first address of the link that it came in by
	Origin    string     // "nft: ip nat prerouting handle 4"
}

// Translated finds listeners whose packets the packet filter sends elsewhere.
// If it sends them to another address of this host whose replies take the same
// way, nothing is wrong. One finding names all listeners of a rule, and all
// rules for the same listeners.
func Translated(in Inputs, p Plan, dnats []DNAT) []Finding {
	if len(dnats) == 0 {
		return nil
	}
	t := translated{local: map[netip.Addr]bool{},
		first: map[linkFamily]netip.Addr{}, single: map[netip.Addr][]Outcome{},
		hit: map[translation][]Outcome{}, replies: RepliesOn(in.Host),
		fib: NewFIB(With(Without(in.Host, in.Policy.Numbers), p.State))}
	for _, a := range in.Host.Addrs {
		addr := a.Prefix.Addr()
		k := linkFamily{a.Link, FamilyOf(addr)}
		t.local[addr] = true
		if !t.first[k].IsValid() && !addr.IsLinkLocalUnicast() {
			t.first[k] = addr
		}
	}
	for _, o := range p.Outcomes {
		// packets for these arrive by no other link
		if !o.Addr.IsLoopback() && !o.Addr.IsLinkLocalUnicast() {
			t.single[o.Addr] = append(t.single[o.Addr], o)
			t.all = append(t.all, o)
		}
	}
	for _, d := range dnats {
		for _, o := range t.near(d) {
			if d.hits(o) {
				t.add(d, o)
			}
		}
	}
	return t.findings()
}

// translation is where a rule sends packets.
type translation struct {
	origin string
	to     netip.Addr
}

type translated struct {
	// The host with the plan.
	local   map[netip.Addr]bool
	first   map[linkFamily]netip.Addr // where packets are redirected to (nf_nat_redirect)
	fib     *FIB
	replies Replies

	// The listeners that packets arrive for.
	all    []Outcome
	single map[netip.Addr][]Outcome // by address

	// The findings.
	order []translation
	hit   map[translation][]Outcome
}

// near returns the outcomes that a rule may be for.
func (t *translated) near(d DNAT) (out []Outcome) {
	for _, p := range d.Addrs {
		if !p.IsSingleIP() {
			return t.all
		}
		out = append(out, t.single[p.Addr()]...)
	}
	if len(d.Addrs) == 0 {
		return t.all
	}
	return out
}

// ComeBy reports whether the rule sees all packets that come in by a link, by
// links with a prefix ("eth*"), or by all other links ("!eth*").
func (d DNAT) ComeBy(link string) bool {
	if d.In == "" {
		return true
	}
	within := func(link, these string) bool {
		begin, some := strings.CutSuffix(these, "*")
		return link == these || some && strings.HasPrefix(link, begin)
	}
	these, except := strings.CutPrefix(d.In, "!")
	those, all := strings.CutPrefix(link, "!")
	switch {
	case !except:
		return !all && link != "" && within(link, these)
	case all:
		return within(these, those)
	}
	return link != "" && !within(link, these) && !within(these, link)
}

// hits reports whether packets for a listener that come in by its link meet the
// rule. If the link is unknown, it returns true.
func (d DNAT) hits(o Outcome) bool {
	if o.Link != "" && !d.ComeBy(o.Link) {
		return false
	}
	if d.Transport != "" && d.Transport != string(o.Transport) ||
		d.First != 0 && (o.Ports.Last < d.First || d.Last < o.Ports.First) {
		return false
	}
	has := func(p netip.Prefix) bool { return p.Contains(o.Addr) }
	return len(d.Addrs) == 0 || slices.ContainsFunc(d.Addrs, has)
}

// add records that a rule is for a listener.
func (t *translated) add(d DNAT, o Outcome) {
	to := d.To
	if d.Redirect {
		to = t.first[linkFamily{o.Link, FamilyOf(o.Addr)}]
	}
	if to == o.Addr || t.local[to] && sameWay(t.way(o.Listener, to), o.After) {
		return
	}
	k := translation{d.Origin, to}
	if t.hit[k] == nil {
		t.order = append(t.order, k)
	}
	t.hit[k] = append(t.hit[k], o)
}

// way returns the way of a listener's replies if they come from another
// address.
func (t *translated) way(l Listener, from netip.Addr) Way {
	l.Addr = from
	return t.fib.Way(t.replies.Far(l))
}

// someListeners is how many listeners, destinations and rules a finding names.
const someListeners = 3

// findings joins all translations of the same listeners into one finding.
func (t *translated) findings() (out []Finding) {
	type group struct {
		subject, packets []string
		to, origins      []string
	}
	groups, keys := map[string]*group{}, []string{}
	for _, k := range t.order {
		addrs, packets := listenersOf(t.hit[k])
		key := strings.Join(packets, " ")
		g := groups[key]
		if g == nil {
			g = &group{subject: addrs, packets: packets}
			groups[key], keys = g, append(keys, key)
		}
		to := "another address"
		if k.to.IsValid() {
			to = k.to.String()
		}
		g.to, g.origins = appendOnce(g.to, to), appendOnce(g.origins, k.origin)
	}
	for _, key := range keys {
		g := groups[key]
		out = append(out, Warning.Finding("dnat", Some(g.subject, someListeners),
			"packets to %s go to %s: their replies leave by the path of that address",
			Some(g.packets, someListeners), Some(g.to, someListeners)).
			Advise("let NGINX listen on that address, or limit the translation to "+
				"other addresses or ports (Docker: -p "+
				"ADDRESS:PORT:PORT)").At(Some(g.origins, someListeners)))
	}
	return out
}

// listenersOf names the addresses of listeners, and each with its port.
func listenersOf(list []Outcome) (addrs, named []string) {
	slices.SortFunc(list, func(a, b Outcome) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Ports.First, b.Ports.First),
			cmp.Compare(a.Ports.Last, b.Ports.Last),
			cmp.Compare(a.Transport, b.Transport))
	})
	for _, o := range list {
		addrs = append(addrs, o.Addr.String())
		named = append(named, fmt.Sprintf("%s port %s", o.Addr, o.PortName()))
	}
	return slices.Compact(addrs), slices.Compact(named)
}
