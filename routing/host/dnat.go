package host

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// DNATs lists the destination translations of the namespace that a packet from
// outside may meet: those in a chain of nf_tables or iptables-legacy at
// prerouting, or in a chain that such a chain leads to. It needs root. It
// ignores a match that it does not understand (a mark, a source, a type of
// address), as if the rule did not have it.
func (k *Kernel) DNATs() ([]routing.DNAT, error) {
	w, err := k.natChains()
	if err != nil {
		return nil, err
	}
	return w.walk()
}

// LegacyDNATs is DNATs of iptables-legacy.
func (k *Kernel) LegacyDNATs() (out []routing.DNAT, err error) {
	err = k.inside(func() error {
		for _, f := range routing.Families {
			w, err := xtablesOf[f].natChains()
			if err != nil {
				return err
			}
			list, err := w.walk()
			out = append(out, list...)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// natRule is one effect of a rule: it sends packets elsewhere, or passes them
// to another chain.
type natRule struct {
	routing.DNAT        // which packets
	jump         string // the other chain
}

// natWalk follows packets through chains from prerouting on.
type natWalk struct {
	base  []string // the chains at prerouting
	rules func(chain string) ([]natRule, error)
	seen  int
	out   []routing.DNAT
}

const (
	maxJumps = 16        // NFT_JUMP_STACK_SIZE; no chain leads to itself
	maxSteps = 2_000_000 // rules seen; those of 10,000 services are 100,000
)

func (w *natWalk) walk() ([]routing.DNAT, error) {
	for _, chain := range w.base {
		if err := w.chain(chain, routing.DNAT{}, 0); err != nil {
			return w.out, err
		}
	}
	return w.out, nil
}

// chain follows the packets that come to a chain.
func (w *natWalk) chain(name string, come routing.DNAT, jumps int) error {
	rules, err := w.rules(name)
	if err != nil || jumps > maxJumps {
		return err
	}
	for _, r := range rules {
		if w.seen++; w.seen > maxSteps {
			return errors.New("too many ways through the rules")
		}
		d, some := narrow(come, r.DNAT)
		switch {
		case !some:
		case r.jump == "":
			w.out = append(w.out, d)
		default:
			if err := w.chain(r.jump, d, jumps+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// narrow restricts the second translation to packets that the first one
// matches, too. It reports whether there may be any.
func narrow(a, b routing.DNAT) (routing.DNAT, bool) {
	some := a.Transport == "" || b.Transport == "" || a.Transport == b.Transport
	b.Transport = cmp.Or(b.Transport, a.Transport)
	in, same := bothLinks(a, b)
	b.In, some = in, some && same
	switch {
	case b.First == 0:
		b.First, b.Last = a.First, a.Last
	case a.First != 0:
		b.First, b.Last = max(a.First, b.First), min(a.Last, b.Last)
		some = some && b.First <= b.Last
	}
	switch {
	case len(b.Addrs) == 0:
		b.Addrs = a.Addrs
	case len(a.Addrs) > 0:
		b.Addrs = common(a.Addrs, b.Addrs)
		some = some && len(b.Addrs) > 0
	}
	return b, some
}

// bothLinks returns the condition of packets that come in by links of both, and
// reports whether there may be any. If one condition cannot express both, it
// returns one of them.
func bothLinks(a, b routing.DNAT) (in string, some bool) {
	notA, otherA := strings.CutPrefix(a.In, "!")
	notB, otherB := strings.CutPrefix(b.In, "!")
	switch {
	case a.ComeBy(b.In):
		return b.In, true
	case b.ComeBy(a.In):
		return a.In, true
	case otherA && otherB:
		return b.In, true
	case otherA:
		return b.In, !routing.DNAT{In: notA}.ComeBy(b.In)
	case otherB:
		return a.In, !routing.DNAT{In: notB}.ComeBy(a.In)
	}
	return b.In, false
}

// linkNamed returns a condition by the bytes of a name. The 0 at its end may be
// missing if the rule matches a prefix.
func linkNamed(b []byte) string {
	name, _, whole := bytes.Cut(b, []byte{0})
	if !whole && len(b) < unix.IFNAMSIZ {
		return string(name) + "*"
	}
	return string(name)
}

// common returns what is in prefixes of both lists.
func common(a, b []netip.Prefix) (out []netip.Prefix) {
	for _, p := range a {
		for _, q := range b {
			switch {
			case !p.Overlaps(q):
			case p.Bits() > q.Bits():
				out = append(out, p)
			default:
				out = append(out, q)
			}
		}
	}
	return out
}

// natReader reads the parts of a rule in their order.
type natReader struct {
	origin string
	come   []routing.DNAT // the packets that come to the next part
	rules  []natRule
}

// only restricts the next part to packets that meet the conditions.
func (r *natReader) only(conditions ...routing.DNAT) {
	var out []routing.DNAT
	for _, a := range r.come {
		for _, b := range conditions {
			if d, some := narrow(a, b); some {
				out = append(out, d)
			}
		}
	}
	r.come = merged(out)
}

// merged joins translations that differ only in their addresses.
func merged(list []routing.DNAT) []routing.DNAT {
	type rest struct {
		in, transport string
		first, last   uint16
	}
	index, out := map[rest]int{}, list[:0]
	for _, d := range list {
		k := rest{d.In, d.Transport, d.First, d.Last}
		if i, ok := index[k]; ok {
			out[i].Addrs = append(out[i].Addrs, d.Addrs...)
			continue
		}
		index[k], d.Addrs = len(out), slices.Clone(d.Addrs)
		out = append(out, d)
	}
	return out
}

// jump records that packets that meet a condition go through another chain.
func (r *natReader) jump(chain string, condition routing.DNAT) {
	for _, a := range r.come {
		if d, some := narrow(a, condition); some {
			r.rules = append(r.rules, natRule{d, chain})
		}
	}
}

// send records where packets are sent.
func (r *natReader) send(to routing.DNAT) {
	for _, a := range r.come {
		if d, some := narrow(a, to); some {
			d.Origin = r.origin
			r.rules = append(r.rules, natRule{DNAT: d})
		}
	}
}

// wholeOf holds every address of the families that a table of nf_tables sees.
var wholeOf = map[uint8][]netip.Prefix{
	unix.NFPROTO_IPV4: {routing.IPv4.All()},
	unix.NFPROTO_IPV6: {routing.IPv6.All()},
	unix.NFPROTO_INET: {routing.IPv4.All(), routing.IPv6.All()},
}

// toPorts returns a condition by ports. NGINX listens on no port 0, so 0 stands
// for all ports.
func toPorts(first, last uint16) routing.DNAT {
	if first == 0 && last == 65535 || last < first {
		return routing.DNAT{}
	}
	return routing.DNAT{First: max(first, 1), Last: max(last, 1)}
}

// toProtocol returns a condition by a number of IPPROTO_*.
func toProtocol(n uint8) routing.DNAT {
	switch n {
	case unix.IPPROTO_TCP:
		return routing.DNAT{Transport: "tcp"}
	case unix.IPPROTO_UDP:
		return routing.DNAT{Transport: "udp"}
	}
	return routing.DNAT{Transport: fmt.Sprintf("protocol %d", n)}
}

// xtMatch reads a match of iptables, of either kind. ok is false for a match
// that it does not understand (struct xt_tcp, xt_udp, xt_multiport_v1,
// xt_iprange_mtinfo).
func xtMatch(name string, revision uint8, info []byte, six bool) (out []routing.DNAT, ok bool) {
	at := func(at int) []byte { // a port, which they hold in the host's order
		return binary.BigEndian.AppendUint16(nil, native.Uint16(info[at:]))
	}
	const notPorts = 2            // XT_TCP_INV_DSTPT, XT_UDP_INV_DSTPT
	const byDst, notDst = 2, 0x20 // IPRANGE_DST, IPRANGE_DST_INV
	what, inverted := register{field: "dport", size: 2}, false
	var intervals []interval
	switch {
	case name == "tcp" && len(info) >= 12:
		intervals = []interval{{at(4), at(6)}}
		inverted = info[11]&notPorts != 0
	case name == "udp" && len(info) >= 9:
		intervals = []interval{{at(4), at(6)}}
		inverted = info[8]&notPorts != 0
	case name == "multiport" && revision == 1 && len(info) >= 48 &&
		info[0] == 1: // XT_MULTIPORT_DESTINATION
		inverted = info[47] != 0
		for i := 0; i < min(int(info[1]), 15); i++ {
			first := at(2 + 2*i)
			last := first
			if info[32+i] != 0 && i < 14 { // it begins a range
				i++
				last = at(2 + 2*i)
			}
			intervals = append(intervals, interval{first, last})
		}
	case name == "iprange" && revision == 1 && len(info) >= 65 && info[64]&byDst != 0:
		size := 4
		if six {
			size = 16
		}
		what = register{field: "daddr", size: size, bits: 8 * size, six: six}
		intervals = []interval{{info[32:][:size], info[48:][:size]}}
		inverted = info[64]&notDst != 0
	default:
		return nil, false
	}
	if inverted && len(intervals) > 0 {
		slices.SortFunc(intervals, func(a, b interval) int {
			return bytes.Compare(a.from, b.from)
		})
		intervals = outside(intervals)
	}
	out, _ = what.conditions(intervals)
	for i := range out {
		if name == "tcp" || name == "udp" {
			out[i].Transport = name
		}
	}
	return out, true
}

// xtTarget reads a target of iptables, of either kind. ok is false for a target
// that keeps the address.
func xtTarget(name string, revision uint8, info []byte, six bool) (to routing.DNAT, ok bool) {
	switch name {
	case "REDIRECT":
		return routing.DNAT{Redirect: true}, true
	case "NETMAP":
		return to, true
	case "DNAT":
		const addresses = 1          // NF_NAT_RANGE_MAP_IPS
		flags, low, high := 0, 4, 20 // struct nf_nat_range, nf_nat_range2
		if revision == 0 {
			flags, low, high = 4, 8, 12 // nf_nat_ipv4_multi_range_compat
		}
		size := 4
		if six {
			size = 16
		}
		if len(info) < high+size {
			return to, true
		}
		if from := info[low : low+size]; string(from) == string(info[high:high+size]) {
			to.To, _ = netip.AddrFromSlice(from)
		}
		return to, native.Uint32(info[flags:])&addresses != 0
	}
	return to, false
}

// natChains reads what nf_tables has at prerouting. It reads the rules of a
// chain only if a packet may come there, and so no other tables and their sets.
func (c *conn) natChains() (*natWalk, error) {
	chains, err := c.hookedChains()
	w := &natWalk{}
	for _, h := range chains {
		if wholeOf[h.family] != nil && h.hook == unix.NF_INET_PRE_ROUTING &&
			h.kind == "nat" {
			w.base = append(w.base, h.String())
		}
	}
	if err != nil || len(w.base) == 0 {
		return w, err
	}
	messages, err := c.listNFT(unix.NFT_MSG_GETRULE, unix.NFT_MSG_NEWRULE, nfMessage(0))
	unread := map[string][][]byte{}
	for _, msg := range messages {
		r, err := decodeRuleHead(msg)
		if err != nil {
			return nil, err
		}
		unread[r.String()] = append(unread[r.String()], msg)
	}
	w.rules = c.readOnce(unread)
	return w, err
}

// readOnce reads the rules of a chain at their first use.
func (c *conn) readOnce(unread map[string][][]byte) func(chain string) ([]natRule, error) {
	rulesOf, names := map[string][]natRule{}, map[int]string{}
	known := nftKnown{c.elements, func(index int) string {
		if _, asked := names[index]; !asked {
			names[index] = ""
			if l, err := c.handle.LinkByIndex(index); err == nil {
				names[index] = l.Attrs().Name
			}
		}
		return names[index]
	}}
	return func(chain string) ([]natRule, error) {
		for _, msg := range unread[chain] {
			rules, err := natRules(msg, known)
			if err != nil {
				return nil, err
			}
			rulesOf[chain] = append(rulesOf[chain], rules...)
		}
		delete(unread, chain)
		return rulesOf[chain], nil
	}
}
