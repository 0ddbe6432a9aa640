package flow

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"lasthop/routing"
)

// maxNames bounds what is learned of neighbours.
const maxNames = 4096

// inVain is how long a neighbour may take to answer.
const inVain = 500 * time.Millisecond

// nameTable learns which MAC has which address, and which neighbours do not
// answer this host.
type nameTable struct {
	names map[routing.MACName]bool
	asked map[target]ask
}

type target struct {
	link int
	addr netip.Addr
}

// ask is the first question since the last answer, and the address that it was
// asked with.
type ask struct {
	since time.Duration
	tell  netip.Addr
}

func newNameTable() *nameTable {
	return &nameTable{map[routing.MACName]bool{}, map[target]ask{}}
}

// add learns from a packet of class neighbours.
func (t *nameTable) add(p *Packet, wire string) {
	switch {
	case p.Meta.Proto == etherARP && p.Leaves():
		if p.Kind == 1 {
			t.asks(p, p.Dst)
		}
	case p.Meta.Proto == etherARP:
		t.name(p, wire, p.Src, "ARP")
	case p.Leaves():
		if p.Kind == 135 {
			t.asks(p, p.Target)
		}
	case p.isError():
		t.name(p, wire, p.Src, "probe")
	case p.Proto == protoVRRP:
		t.name(p, wire, p.Src, "VRRP")
	case p.Proto == protoICMP6 && p.Kind == 134:
		t.name(p, wire, p.Src, "RA")
	case p.Proto == protoICMP6 && p.Kind == 135:
		t.name(p, wire, p.Src, "ND")
	case p.Proto == protoICMP6 && p.Kind == 136:
		t.name(p, wire, p.Target, "ND")
	}
}

func (t *nameTable) asks(p *Packet, addr netip.Addr) {
	key := target{p.Link, addr}
	if _, known := t.asked[key]; !known && addr.IsValid() && len(t.asked) < maxNames {
		t.asked[key] = ask{p.At, p.Src}
	}
}

func (t *nameTable) name(p *Packet, wire string, addr netip.Addr, source string) {
	if !addr.IsValid() || addr.IsUnspecified() || p.From == (routing.MAC{}) {
		return // a probe for a duplicate address, or a link without MACs
	}
	delete(t.asked, target{p.Link, addr})
	if len(t.names) < maxNames {
		t.names[routing.MACName{Wire: wire, MAC: p.From, Addr: addr, Source: source}] = true
	}
}

// knows reports whether a MAC has a name.
func (t *nameTable) knows(wire string, mac routing.MAC) bool {
	for n := range t.names {
		if n.Wire == wire && n.MAC == mac {
			return true
		}
	}
	return false
}

// vain returns the next hop that does not answer this host while the host
// answers from an address: one that the host asked for with that address, else
// one of its gateways.
func (t *nameTable) vain(n *network, local netip.Addr, now time.Duration) (target, bool) {
	var best target
	found := false
	for key, a := range t.asked {
		if now-a.since < inVain || key.addr.Is4() != local.Is4() ||
			a.tell != local && !n.gateways[key.addr] {
			continue
		}
		if own := a.tell == local; !found || own && t.asked[best].tell != local {
			best, found = key, true
		}
	}
	return best, found
}

// list returns the names in a fixed order.
func (t *nameTable) list() []routing.MACName {
	return slices.SortedFunc(maps.Keys(t.names), func(a, b routing.MACName) int {
		return cmp.Or(cmp.Compare(a.Wire, b.Wire), slices.Compare(a.MAC[:], b.MAC[:]),
			a.Addr.Compare(b.Addr), cmp.Compare(a.Source, b.Source))
	})
}
