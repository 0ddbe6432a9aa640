package host

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// Attributes of rules (include/uapi/linux/fib_rules.h). x/sys knows a part of
// them.
const (
	fraDst                   = 1
	fraSrc                   = 2
	fraIIF                   = 3
	fraGoto                  = 4
	fraPriority              = 6
	fraMark                  = 10
	fraFlow                  = 11
	fraTunID                 = 12
	fraSuppressGroup         = 13
	fraSuppressPrefix        = 14
	fraTable                 = 15
	fraMask                  = 16
	fraOIF                   = 17
	fraPad                   = 18
	fraL3mdev                = 19
	fraUIDRange              = 20
	fraProtocol              = 21
	fraIPProto               = 22
	fraSportRange            = 23
	fraDportRange            = 24
	fraDSCP                  = 25
	fraSportMask             = 28
	fraDportMask             = 29
	fraDSCPMask              = 30
	ruleHeader               = 12
	ruleInvert        uint32 = 2 // FIB_RULE_INVERT
)

// decodeRule reads the payload of an RTM_NEWRULE message: struct fib_rule_hdr
// and attributes.
func decodeRule(b []byte) (routing.Rule, error) {
	if len(b) < ruleHeader {
		return routing.Rule{}, fmt.Errorf("decode rule: %w", errShort)
	}
	family, err := familyOf(b[0])
	if err != nil {
		return routing.Rule{}, fmt.Errorf("decode rule: %w", err)
	}
	list, err := attrs(b[ruleHeader:])
	if err != nil {
		return routing.Rule{}, fmt.Errorf("decode rule: %w", err)
	}
	r := routing.NewRule(family, 0, uint32(b[4]))
	r.Action = routing.Action(b[7])
	r.Not = native.Uint32(b[8:])&ruleInvert != 0
	var more []attr
	for _, a := range list {
		known, err := ruleField(&r, a, int(b[1]), int(b[2]))
		if err != nil {
			return routing.Rule{},
				fmt.Errorf("decode rule: attribute %d: %w", a.kind, err)
		}
		if !known {
			more = append(more, a)
		}
	}
	r.Opaque = opaqueSelectors(b[3], more)
	return r, nil
}

// selectorOrder is iproute2's order of the selectors that are not modelled;
// others stand between these and the last two.
var selectorOrder = []int{fraUIDRange, fraIPProto, fraSportRange, fraDportRange, fraTunID, fraDSCP}

func opaqueSelectors(tos byte, list []attr) string {
	rank := func(a attr) int {
		if i := slices.Index(selectorOrder, a.kind); i >= 0 {
			return i
		}
		return len(selectorOrder) + slices.Index([]int{0, fraFlow, fraL3mdev}, a.kind) + 1
	}
	slices.SortStableFunc(list, func(a, b attr) int { return cmp.Compare(rank(a), rank(b)) })
	var w []string
	if tos != 0 {
		w = append(w, fmt.Sprintf("tos %#x", tos))
	}
	for _, a := range list {
		if s := ruleOpaque(a); s != "" {
			w = append(w, s)
		}
	}
	return strings.Join(w, " ")
}

// ruleField sets the field of a modelled attribute and says whether it is one.
func ruleField(r *routing.Rule, a attr, dstLen, srcLen int) (bool, error) {
	var err error
	switch a.kind {
	case fraDst:
		r.To, err = a.prefix(dstLen)
	case fraSrc:
		r.From, err = a.prefix(srcLen)
	case fraIIF:
		r.IIF = a.string()
	case fraOIF:
		r.OIF = a.string()
	case fraGoto:
		r.Goto = int(a.uint())
	case fraPriority:
		r.Priority = int(a.uint())
	case fraMark:
		r.Mark = a.uint()
	case fraMask:
		r.Mask = a.uint()
	case fraSuppressGroup:
		r.SuppressGroup = int(int32(a.uint()))
	case fraSuppressPrefix:
		r.SuppressPrefix = int(int32(a.uint()))
	case fraTable:
		r.Table = a.uint()
	case fraProtocol:
		r.Protocol = uint8(a.uint())
	case fraPad:
	default:
		return false, nil
	}
	return true, err
}

// protocolNames are what `ip rule` calls protocols on every machine
// (/etc/protocols has more, where it exists).
var protocolNames = map[uint32]string{unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_TCP: "tcp",
	unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMPV6: "ipv6-icmp"}

// ruleOpaque prints a selector that is not modelled, as `ip rule` does where it
// knows it, or "" if it says nothing: since 6.15 the kernel sends masks that
// select the whole value.
func ruleOpaque(a attr) string {
	switch v := a.uint(); {
	case a.kind == fraL3mdev && v == 0, a.kind == fraSportMask && v == 0xffff,
		a.kind == fraDportMask && v == 0xffff,
		a.kind == fraDSCPMask && v == 0x3f:
		return ""
	case a.kind == fraL3mdev:
		return "l3mdev"
	case a.kind == fraIPProto && protocolNames[v] != "":
		return "ipproto " + protocolNames[v]
	case a.kind == fraIPProto:
		return fmt.Sprintf("ipproto %d", v)
	case a.kind == fraSportRange && len(a.value) == 4:
		return "sport " + span(native.Uint16(a.value), native.Uint16(a.value[2:]))
	case a.kind == fraDportRange && len(a.value) == 4:
		return "dport " + span(native.Uint16(a.value), native.Uint16(a.value[2:]))
	case a.kind == fraUIDRange && len(a.value) == 8:
		return fmt.Sprintf("uidrange %d-%d", native.Uint32(a.value),
			native.Uint32(a.value[4:]))
	case a.kind == fraDSCP:
		return fmt.Sprintf("dscp %d", v)
	case a.kind == fraTunID && len(a.value) == 8:
		return fmt.Sprintf("tun_id %d", binary.BigEndian.Uint64(a.value))
	case a.kind == fraFlow:
		return printRealms("realms", v)
	}
	return printUnknown(a)
}

func span(first, last uint16) string {
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// encodeRule writes the payload of RTM_NEWRULE and RTM_DELRULE. Every field
// goes in: the kernel deletes the first rule that agrees in what is sent,
// whoever owns it.
func encodeRule(r routing.Rule) []byte {
	m := message{make([]byte, ruleHeader)}
	m.data[0], m.data[7] = afOf(r.Family), byte(r.Action)
	if r.Table < 256 {
		m.data[4] = byte(r.Table)
	}
	if r.Not {
		native.PutUint32(m.data[8:], ruleInvert)
	}
	prefix := func(kind, length int, p netip.Prefix) {
		if p.IsValid() {
			m.data[length] = byte(p.Bits())
			m.putAddr(kind, p.Addr())
		}
	}
	prefix(fraDst, 1, r.To)
	prefix(fraSrc, 2, r.From)
	m.putUint32(fraPriority, uint32(r.Priority))
	if r.Table != 0 {
		m.putUint32(fraTable, r.Table)
	}
	m.put(fraProtocol, []byte{r.Protocol})
	if r.IIF != "" {
		m.putString(fraIIF, r.IIF)
	}
	if r.OIF != "" {
		m.putString(fraOIF, r.OIF)
	}
	if r.Mark != 0 || r.Mask != 0 {
		m.putUint32(fraMark, r.Mark)
		m.putUint32(fraMask, r.Mask)
	}
	if r.SuppressPrefix != routing.None {
		m.putUint32(fraSuppressPrefix, uint32(r.SuppressPrefix))
	}
	if r.SuppressGroup != routing.None {
		m.putUint32(fraSuppressGroup, uint32(r.SuppressGroup))
	}
	if r.Action == routing.Goto {
		m.putUint32(fraGoto, uint32(r.Goto))
	}
	return m.data
}

func familyOf(af byte) (routing.Family, error) {
	switch af {
	case unix.AF_INET:
		return routing.IPv4, nil
	case unix.AF_INET6:
		return routing.IPv6, nil
	}
	return 0, fmt.Errorf("address family %d", af)
}

func afOf(f routing.Family) byte {
	if f == routing.IPv4 {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
