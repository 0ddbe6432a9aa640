package host

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"lasthop/routing"

	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// This file reads rules of nf_tables that may send packets elsewhere: it finds
// which packets reach which end of a rule.

// register is what a rule has loaded into a register.
type register struct {
	// "daddr", "dport", "l4proto", "nfproto", "iif", "iifname"; "" for a
	// constant
	field string
	value []byte // the constant
	size  int    // of the loaded bytes
	bits  int    // of an address, those that the rule uses
	six   bool   // of an address
}

// nftReader reads the expressions of a rule.
type nftReader struct {
	natReader
	rule nftRule
	// by number of 4 bytes; without values that are not understood
	registers map[int]register
	known     nftKnown
}

// nftKnown reads what a rule refers to: the elements of a set, and the name of
// a link by its index, "" if there is none.
type nftKnown struct {
	elements func(set nftChain) ([]nftElement, error)
	link     func(index int) string
}

// natRules returns the effects of a rule of nf_tables.
func natRules(msg []byte, known nftKnown) ([]natRule, error) {
	rule, err := decodeRuleHead(msg)
	if err != nil {
		return nil, err
	}
	r := nftReader{rule: rule, registers: map[int]register{}, known: known,
		natReader: natReader{
			origin: fmt.Sprintf("nft: %s handle %d", rule.nftChain, rule.handle),
			come:   []routing.DNAT{{Addrs: wholeOf[rule.family]}}}}
	err = r.rule.each(r.expression)
	return r.rules, err
}

func (r *nftReader) expression(name string, data []attr) error {
	switch name {
	case "payload":
		r.payload(data)
	case "meta":
		r.meta(data)
	case "bitwise":
		r.bitwise(data)
	case "cmp":
		r.compare(data)
	case "range":
		r.inRange(data)
	case "lookup":
		return r.lookup(data)
	case "immediate":
		return r.immediate(data)
	case "match":
		if list, ok := xtMatch(find(data, unix.NFTA_MATCH_NAME).string(),
			uint8(find(data, unix.NFTA_MATCH_REV).big()),
			find(data, unix.NFTA_MATCH_INFO).value,
			r.rule.family == unix.NFPROTO_IPV6); ok {
			r.only(list...)
		}
	case "target":
		if to, ok := xtTarget(find(data, unix.NFTA_TARGET_NAME).string(),
			uint8(find(data, unix.NFTA_TARGET_REV).big()),
			find(data, unix.NFTA_TARGET_INFO).value,
			r.rule.family == unix.NFPROTO_IPV6); ok {
			r.send(to)
		}
	case "redir":
		r.send(routing.DNAT{Redirect: true})
	case "nat":
		r.nat(data)
	case "counter", "log", "limit":
	default: // it may load anything
		clear(r.registers)
	}
	return nil
}

// place is where a register begins: there are four of 16 bytes, which are also
// 16 of 4 bytes.
func place(a attr) int {
	n := int(a.big())
	if n <= unix.NFT_REG_4 {
		return 4 * n
	}
	return n - unix.NFT_REG32_00 + 4
}

// load records what is in a register from now on. If the size is unknown, every
// register that may have changed counts as changed.
func (r *nftReader) load(to attr, what *register) {
	at, size := place(to), 16
	if what != nil {
		size = what.size
	}
	for i := range (size + 3) / 4 {
		delete(r.registers, at+i)
	}
	if what != nil {
		r.registers[at] = *what
	}
}

func (r *nftReader) payload(data []attr) {
	if find(data, unix.NFTA_PAYLOAD_SREG).value != nil {
		return // it writes
	}
	offset, size := find(data, unix.NFTA_PAYLOAD_OFFSET).big(),
		int(find(data, unix.NFTA_PAYLOAD_LEN).big())
	family := r.rule.family
	var what *register
	switch find(data, unix.NFTA_PAYLOAD_BASE).big() {
	case unix.NFT_PAYLOAD_NETWORK_HEADER:
		switch {
		case family != unix.NFPROTO_IPV6 && offset == 16 && size <= 4:
			what = &register{field: "daddr", size: size, bits: 8 * size}
		case family != unix.NFPROTO_IPV4 && offset == 24 && size <= 16:
			what = &register{field: "daddr", size: size, bits: 8 * size, six: true}
		case family != unix.NFPROTO_IPV6 && offset == 9 && size == 1,
			family != unix.NFPROTO_IPV4 && offset == 6 && size == 1:
			what = &register{field: "l4proto", size: 1}
		}
	case unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		if offset == 2 && size == 2 {
			what = &register{field: "dport", size: 2}
		}
	}
	r.load(find(data, unix.NFTA_PAYLOAD_DREG), what)
}

func (r *nftReader) meta(data []attr) {
	if find(data, unix.NFTA_META_SREG).value != nil {
		return // it writes
	}
	var what *register
	switch find(data, unix.NFTA_META_KEY).big() {
	case unix.NFT_META_L4PROTO:
		what = &register{field: "l4proto", size: 1}
	case unix.NFT_META_NFPROTO:
		what = &register{field: "nfproto", size: 1}
	case unix.NFT_META_IIF:
		what = &register{field: "iif", size: 4}
	case unix.NFT_META_IIFNAME:
		what = &register{field: "iifname", size: unix.IFNAMSIZ}
	}
	r.load(find(data, unix.NFTA_META_DREG), what)
}

// bitwise cuts an address to a prefix; it understands no other operation.
func (r *nftReader) bitwise(data []attr) {
	what, ok := r.registers[place(find(data, unix.NFTA_BITWISE_SREG))]
	mask, xor := dataValue(find(data, unix.NFTA_BITWISE_MASK)),
		dataValue(find(data, unix.NFTA_BITWISE_XOR))
	ones, rest := leadingOnes(mask)
	if !ok || what.field != "daddr" || len(mask) != what.size || rest ||
		len(bytes.Trim(xor, "\x00")) > 0 {
		r.load(find(data, unix.NFTA_BITWISE_DREG), nil)
		return
	}
	what.bits = min(what.bits, ones)
	r.load(find(data, unix.NFTA_BITWISE_DREG), &what)
}

// leadingOnes counts the first bits that are set; rest reports whether more set
// bits follow after a gap.
func leadingOnes(mask []byte) (n int, rest bool) {
	for i, b := range mask {
		ones := bits.LeadingZeros8(^b)
		n += ones
		if ones < 8 {
			return n, b<<ones != 0 || len(bytes.Trim(mask[i+1:], "\x00")) > 0
		}
	}
	return n, false
}

// dataValue returns the value of nested data.
func dataValue(a attr) []byte {
	list, err := attrs(a.value)
	if err != nil {
		return nil
	}
	return find(list, unix.NFTA_DATA_VALUE).value
}

func (r *nftReader) compare(data []attr) {
	what := r.registers[place(find(data, unix.NFTA_CMP_SREG))]
	value, op := dataValue(find(data, unix.NFTA_CMP_DATA)), find(data, unix.NFTA_CMP_OP).big()
	if in := r.linkIn(what, value); in != "" {
		r.byLink(in, op == unix.NFT_CMP_EQ, op == unix.NFT_CMP_NEQ)
		return
	}
	s, ok := what.spread(value, value)
	if !ok {
		return
	}
	least, most := make([]byte, len(s.from)), mostOf(s)
	switch op {
	case unix.NFT_CMP_EQ:
		r.within(what, s)
	case unix.NFT_CMP_NEQ:
		r.within(what, outside([]interval{s})...)
	case unix.NFT_CMP_LT:
		r.within(what, outside([]interval{{s.from, most}})...)
	case unix.NFT_CMP_LTE:
		r.within(what, interval{least, s.to})
	case unix.NFT_CMP_GT:
		r.within(what, outside([]interval{{least, s.to}})...)
	case unix.NFT_CMP_GTE:
		r.within(what, interval{s.from, most})
	}
}

func (r *nftReader) inRange(data []attr) {
	what := r.registers[place(find(data, unix.NFTA_RANGE_SREG))]
	s, ok := what.spread(dataValue(find(data, unix.NFTA_RANGE_FROM_DATA)),
		dataValue(find(data, unix.NFTA_RANGE_TO_DATA)))
	switch op := find(data, unix.NFTA_RANGE_OP).big(); {
	case !ok:
	case op == unix.NFT_RANGE_EQ:
		r.within(what, s)
	case op == unix.NFT_RANGE_NEQ:
		r.within(what, outside([]interval{s})...)
	}
}

// linkIn returns a condition on the link by the value that its register is
// compared with; "" if it is not understood, or the register holds no link. A
// name is compared up to the length of the value.
func (r *nftReader) linkIn(what register, value []byte) string {
	switch {
	case what.field == "iifname" && len(value) > 0:
		return linkNamed(value[:min(len(value), what.size)])
	case what.field == "iif" && len(value) >= 4:
		return r.known.link(int(native.Uint32(value)))
	}
	return ""
}

// byLink restricts the next part to packets that come in by the link, or by any
// other link.
func (r *nftReader) byLink(in string, is, isNot bool) {
	if is {
		r.only(routing.DNAT{In: in})
	} else if isNot {
		r.only(routing.DNAT{In: "!" + in})
	}
}

// interval is the values from one to another, of the same number of bytes.
type interval struct{ from, to []byte }

// outside returns the values that are in none of the intervals. The intervals
// are sorted; there is at least one.
func outside(list []interval) (out []interval) {
	next, most := make([]byte, len(list[0].from)), mostOf(list[0])
	for _, s := range list {
		if bytes.Compare(next, s.from) < 0 {
			out = append(out, interval{next, before(s.from)})
		}
		if bytes.Compare(next, s.to) > 0 {
			continue
		}
		if bytes.Equal(s.to, most) {
			return out
		}
		next = after(s.to)
	}
	return append(out, interval{next, most})
}

// mostOf returns the greatest value of an interval's kind.
func mostOf(s interval) []byte { return bytes.Repeat([]byte{255}, len(s.from)) }

// spread returns the values of a field whose register is in a range. The
// register may hold only the first bytes or bits of an address.
func (g register) spread(from, to []byte) (s interval, known bool) {
	if g.size <= 0 || len(from) < g.size || len(to) < g.size {
		return s, false
	}
	n := g.size
	if g.field == "daddr" && g.six {
		n = 16
	} else if g.field == "daddr" {
		n = 4
	}
	s.from, s.to = make([]byte, n), bytes.Repeat([]byte{255}, n)
	copy(s.from, from[:g.size])
	copy(s.to, to[:g.size])
	for i := g.bits; g.field == "daddr" && i < 8*n; i++ {
		s.to[i/8] |= 0x80 >> (i % 8)
	}
	return s, bytes.Compare(s.from, s.to) <= 0
}

// within restricts the next part to values that are in one of the intervals.
func (r *nftReader) within(what register, intervals ...interval) {
	if list, known := what.conditions(intervals); known {
		r.only(list...)
	}
}

// conditions are those of a register that is in one of the intervals, none if
// it never is. known is false if they do not concern what NGINX listens on.
func (g register) conditions(intervals []interval) (out []routing.DNAT, known bool) {
	has := func(n byte) bool {
		return slices.ContainsFunc(intervals, func(s interval) bool {
			return s.from[0] <= n && n <= s.to[0]
		})
	}
	switch g.field {
	case "daddr":
		var d routing.DNAT
		for _, s := range intervals {
			from, _ := netip.AddrFromSlice(s.from)
			to, _ := netip.AddrFromSlice(s.to)
			d.Addrs = append(d.Addrs, netipx.IPRangeFrom(from, to).Prefixes()...)
		}
		if len(d.Addrs) > 0 {
			out = append(out, d)
		}
	case "dport":
		for _, s := range intervals {
			if last := port(s.to); last > 0 {
				out = append(out, toPorts(port(s.from), last))
			}
		}
	case "l4proto":
		if len(intervals) == 1 && intervals[0].from[0] == intervals[0].to[0] {
			return []routing.DNAT{toProtocol(intervals[0].from[0])}, true
		}
		tcp, udp := has(unix.IPPROTO_TCP), has(unix.IPPROTO_UDP)
		if tcp && udp {
			return nil, false
		}
		return notProtocols(!tcp, !udp), true
	case "nfproto":
		for _, n := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
			if has(n) {
				out = append(out, routing.DNAT{Addrs: wholeOf[n]})
			}
		}
	default:
		return nil, false
	}
	return out, true
}

// notProtocols returns the conditions of packets that are not of these
// protocols. TCP and UDP are all that NGINX listens on.
func notProtocols(tcp, udp bool) (out []routing.DNAT) {
	if !tcp {
		out = append(out, toProtocol(unix.IPPROTO_TCP))
	}
	if !udp {
		out = append(out, toProtocol(unix.IPPROTO_UDP))
	}
	return out
}

func port(b []byte) uint16 { return uint16(b[0])<<8 | uint16(b[1]) }

// immediate loads a constant, or ends the rule with a verdict.
func (r *nftReader) immediate(data []attr) error {
	to := find(data, unix.NFTA_IMMEDIATE_DREG)
	value := find(data, unix.NFTA_IMMEDIATE_DATA)
	if to.big() == unix.NFT_REG_VERDICT {
		return r.jumpTo(value, routing.DNAT{})
	}
	constant := dataValue(value)
	r.load(to, &register{value: constant, size: len(constant)})
	return nil
}

// jumpTo sends packets that meet a condition through the chain that nested data
// names, if it names one.
func (r *nftReader) jumpTo(data attr, condition routing.DNAT) error {
	chain, err := r.rule.verdict(data)
	if chain.name != "" {
		r.jump(chain.String(), condition)
	}
	return err
}

// nat sends packets to the constant of a register, or to what a map says.
func (r *nftReader) nat(data []attr) {
	low, high := find(data, unix.NFTA_NAT_REG_ADDR_MIN), find(data, unix.NFTA_NAT_REG_ADDR_MAX)
	if find(data, unix.NFTA_NAT_TYPE).big() != unix.NFT_NAT_DNAT || low.value == nil {
		return
	}
	family := uint8(find(data, unix.NFTA_NAT_FAMILY).big())
	to, size := routing.DNAT{Addrs: wholeOf[family]}, 4
	if family == unix.NFPROTO_IPV6 {
		size = 16
	}
	from, till := r.registers[place(low)].value, r.registers[place(low)].value
	if high.value != nil {
		till = r.registers[place(high)].value
	}
	if len(from) >= size && bytes.Equal(from, till) {
		to.To, _ = netip.AddrFromSlice(from[:size])
	}
	r.send(to)
}

// lookup lets a packet pass that is in a set, or that is not, or sends it to
// the chain that a map names. It ignores sets of other values.
func (r *nftReader) lookup(data []attr) error {
	at, to := place(find(data, unix.NFTA_LOOKUP_SREG)), find(data, unix.NFTA_LOOKUP_DREG)
	verdicts := to.value != nil && to.big() == unix.NFT_REG_VERDICT
	if verdicts || r.knows(at) {
		elements, err := r.known.elements(nftChain{r.rule.family, r.rule.table,
			find(data, unix.NFTA_LOOKUP_SET).string()})
		switch {
		case err != nil:
			return err
		case find(data, unix.NFTA_LOOKUP_FLAGS).big()&unix.NFT_LOOKUP_F_INV != 0:
			r.inNone(elements, r.registers[at])
		default:
			if err := r.inOne(elements, at); err != nil {
				return err
			}
		}
	}
	if to.value != nil && !verdicts {
		r.load(to, nil)
	}
	return nil
}

// inOne lets a packet pass that is in one of the elements.
func (r *nftReader) inOne(elements []nftElement, at int) error {
	var in []routing.DNAT
	for _, e := range elements {
		d, some := r.inElement(e, at)
		if !some {
			continue
		}
		in = append(in, d)
		if err := r.jumpTo(e.data, d); err != nil {
			return err
		}
	}
	r.only(merged(in)...)
	return nil
}

// maxNot is how many excluded elements are followed, since each splits the
// addresses further. With more, all packets count as passed.
const maxNot = 256

// inNone lets a packet pass that is in none of the elements, if the elements
// are about one register alone.
func (r *nftReader) inNone(elements []nftElement, what register) {
	var intervals []interval
	if len(elements) > maxNot {
		return
	}
	for _, e := range elements {
		if len(e.key) > (what.size+3)/4*4 {
			return
		}
		if in := r.linkIn(what, e.key); in != "" && bytes.Equal(e.key, e.end) {
			r.byLink(in, false, true)
		}
		if s, ok := what.spread(e.key, e.end); ok {
			intervals = append(intervals, s)
		}
	}
	if len(intervals) > 0 && len(intervals) == len(elements) {
		r.within(what, outside(intervals)...)
	}
}

// knows reports whether the registers from a place on hold a value that is
// understood.
func (r *nftReader) knows(at int) bool {
	for i, what := range r.registers {
		if i >= at && what.field != "" {
			return true
		}
	}
	return false
}

// inElement is the condition that the registers from a place on are in an
// element; some is false if they never are.
func (r *nftReader) inElement(e nftElement, at int) (all routing.DNAT, some bool) {
	some = true
	for i, what := range r.registers {
		offset := 4 * (i - at)
		if i < at || offset >= min(len(e.key), len(e.end)) {
			continue
		}
		from, to := e.key[offset:], e.end[offset:]
		s, ok := what.spread(from, to)
		if !ok {
			continue
		}
		list, known := what.conditions([]interval{s})
		if in := r.linkIn(what, from); in != "" && bytes.Equal(s.from, s.to) {
			list = []routing.DNAT{{In: in}}
		}
		switch {
		case len(list) == 1 && some:
			all, some = narrow(all, list[0])
		case known && len(list) == 0:
			some = false
		}
	}
	return all, some
}

// nftElement is an element of a set or a map: from key to end.
type nftElement struct {
	key, end []byte
	data     attr
	closes   bool // it is no element: key is the first behind one
}

// elements reads a set. A set that is gone was in a rule that is gone.
func (c *conn) elements(set nftChain) ([]nftElement, error) {
	m := nfMessage(set.family)
	m.putString(unix.NFTA_SET_ELEM_LIST_TABLE, set.table)
	m.putString(unix.NFTA_SET_ELEM_LIST_SET, set.name)
	messages, err := c.listNFT(unix.NFT_MSG_GETSETELEM, unix.NFT_MSG_NEWSETELEM, m)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeElements(messages)
}

const setElemKeyEnd = 10 // NFTA_SET_ELEM_KEY_END

func decodeElements(messages [][]byte) (out []nftElement, err error) {
	for _, msg := range messages {
		_, list, err := decode[unix.Nfgenmsg](msg)
		if err != nil {
			return nil, err
		}
		elements, err := attrs(find(list, unix.NFTA_SET_ELEM_LIST_ELEMENTS).value)
		if err != nil {
			return nil, err
		}
		for _, e := range elements {
			parts, err := attrs(e.value)
			if err != nil {
				return nil, err
			}
			x := nftElement{key: dataValue(find(parts, unix.NFTA_SET_ELEM_KEY)),
				data: find(parts, unix.NFTA_SET_ELEM_DATA),
				closes: find(parts, unix.NFTA_SET_ELEM_FLAGS).big()&
					unix.NFT_SET_ELEM_INTERVAL_END != 0}
			x.end = x.key
			if end := find(parts, setElemKeyEnd); end.value != nil {
				x.end = dataValue(end)
			}
			out = append(out, x)
		}
	}
	return closed(out), nil
}

// closed sorts elements, and gives those of a set of intervals their ends: the
// beginning of the next one, or an end mark. The last one may have no end.
func closed(list []nftElement) (out []nftElement) {
	slices.SortStableFunc(list, func(a, b nftElement) int {
		return bytes.Compare(a.key, b.key)
	})
	if !slices.ContainsFunc(list, func(e nftElement) bool { return e.closes }) {
		return list
	}
	for i, e := range list {
		if e.closes {
			continue
		}
		e.end = bytes.Repeat([]byte{255}, len(e.key))
		for _, next := range list[i+1:] {
			if !bytes.Equal(next.key, e.key) {
				e.end = before(next.key)
				break
			}
		}
		out = append(out, e)
	}
	return out
}

// before returns a number less one.
func before(n []byte) []byte {
	n = bytes.Clone(n)
	for i := len(n) - 1; i >= 0; i-- {
		n[i]--
		if n[i] != 255 {
			break
		}
	}
	return n
}

// after returns a number plus one.
func after(n []byte) []byte {
	n = bytes.Clone(n)
	for i := len(n) - 1; i >= 0; i-- {
		n[i]++
		if n[i] != 0 {
			break
		}
	}
	return n
}
