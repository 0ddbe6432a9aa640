package host

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// This file reads rules of nf_tables that may send packets elsewhere: which
// packets reach which end of a rule.

// register is what a rule has loaded into a register.
type register struct {
	field string // "daddr", "dport", "l4proto", "nfproto", "iifname"; "" for a constant
	value []byte // the constant
	size  int    // of the loaded bytes
	bits  int    // of an address, those that the rule looks at
	six   bool   // of an address
}

// nftReader reads the expressions of a rule.
type nftReader struct {
	natReader
	rule nftRule
	// by number of 4 bytes; what is not understood is not in it
	registers map[int]register
	elements  func(set nftChain) ([]nftElement, error)
}

// natRules returns the things that a rule of nf_tables does. elements reads a
// set.
func natRules(msg []byte, elements func(set nftChain) ([]nftElement, error)) ([]natRule, error) {
	rule, err := decodeRuleHead(msg)
	if err != nil {
		return nil, err
	}
	r := nftReader{rule: rule, registers: map[int]register{}, elements: elements,
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
			find(data, unix.NFTA_MATCH_INFO).value); ok {
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

// load says what is in a register from now on. Of an unknown size all counts as
// changed that may have.
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
	case unix.NFT_META_IIFNAME:
		what = &register{field: "iifname", size: unix.IFNAMSIZ}
	}
	r.load(find(data, unix.NFTA_META_DREG), what)
}

// bitwise cuts an address to a prefix; nothing else of it is understood.
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

// leadingOnes counts the first bits that are set; rest reports whether more of
// them follow behind others.
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

// dataValue is the value of nested data.
func dataValue(a attr) []byte {
	list, err := attrs(a.value)
	if err != nil {
		return nil
	}
	return find(list, unix.NFTA_DATA_VALUE).value
}

func (r *nftReader) compare(data []attr) {
	what := r.registers[place(find(data, unix.NFTA_CMP_SREG))]
	value := dataValue(find(data, unix.NFTA_CMP_DATA))
	from, to := value, value
	switch op := find(data, unix.NFTA_CMP_OP).big(); {
	case op == unix.NFT_CMP_EQ:
	case op == unix.NFT_CMP_GTE && what.field == "dport":
		to = []byte{255, 255}
	case op == unix.NFT_CMP_LTE && what.field == "dport":
		from = []byte{0, 0}
	default:
		return
	}
	if d, known := what.between(from, to); known {
		r.only(d)
	}
}

func (r *nftReader) inRange(data []attr) {
	what := r.registers[place(find(data, unix.NFTA_RANGE_SREG))]
	d, known := what.between(dataValue(find(data, unix.NFTA_RANGE_FROM_DATA)),
		dataValue(find(data, unix.NFTA_RANGE_TO_DATA)))
	if known && find(data, unix.NFTA_RANGE_OP).big() == unix.NFT_RANGE_EQ {
		r.only(d)
	}
}

// between is the condition that what is in the register is in a range; known is
// false where that says nothing. A range of addresses becomes the longest
// prefix around it.
func (g register) between(from, to []byte) (d routing.DNAT, known bool) {
	if g.field == "iifname" { // compared as far as there is a value
		from, to = from[:min(len(from), g.size)], to[:min(len(to), g.size)]
		return linkNamed(from), len(from) > 0 && bytes.Equal(from, to)
	}
	if g.size <= 0 || len(from) < g.size || len(to) < g.size {
		return d, false
	}
	switch g.field {
	case "daddr":
		return routing.DNAT{Addrs: []netip.Prefix{g.around(from, to)}}, true
	case "dport":
		return toPorts(port(from), port(to)), true
	case "l4proto":
		return toProtocol(from[0]), from[0] == to[0]
	case "nfproto":
		d.Addrs = wholeOf[from[0]]
		return d, d.Addrs != nil && from[0] == to[0]
	}
	return d, false
}

func port(b []byte) uint16 { return uint16(b[0])<<8 | uint16(b[1]) }

// around returns the longest prefix with both addresses, of which there may be
// the first bytes alone.
func (g register) around(from, to []byte) netip.Prefix {
	n := 0
	for n < g.bits && (from[n/8]^to[n/8])&(0x80>>(n%8)) == 0 {
		n++
	}
	var addr [16]byte
	copy(addr[:], from[:g.size])
	a := netip.AddrFrom16(addr)
	if !g.six {
		a = netip.AddrFrom4([4]byte(addr[:4]))
	}
	return netip.PrefixFrom(a, n).Masked()
}

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

// jumpTo lets packets of a condition go through the chain that nested data
// names, if it does.
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

// lookup lets a packet pass that is in a set, or sends it to the chain that a
// map says. Of a set of something else nothing is asked.
func (r *nftReader) lookup(data []attr) error {
	at, to := place(find(data, unix.NFTA_LOOKUP_SREG)), find(data, unix.NFTA_LOOKUP_DREG)
	verdicts := to.value != nil && to.big() == unix.NFT_REG_VERDICT
	inverted := find(data, unix.NFTA_LOOKUP_FLAGS).big()&unix.NFT_LOOKUP_F_INV != 0
	if !inverted && (verdicts || r.knows(at)) {
		elements, err := r.elements(nftChain{r.rule.family, r.rule.table,
			find(data, unix.NFTA_LOOKUP_SET).string()})
		if err != nil {
			return err
		}
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
	}
	if to.value != nil && !verdicts {
		r.load(to, nil)
	}
	return nil
}

// knows reports whether something that is understood is in the registers from a
// place on.
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
		if d, known := what.between(e.key[offset:], e.end[offset:]); known && some {
			all, some = narrow(all, d)
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

// elements reads a set. One that is gone was in a rule that is gone.
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

// closed sorts elements, and gives those of a set of intervals their ends:
// where the next one begins or a mark is; the last one may have none.
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
