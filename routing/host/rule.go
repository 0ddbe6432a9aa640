package host

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// Attributes of rules that x/sys has no name for
// (include/uapi/linux/fib_rules.h).
const (
	fraDSCP      = 25
	fraSportMask = 28
	fraDportMask = 29
	fraDSCPMask  = 30
)

// ruleHeader is struct fib_rule_hdr.
type ruleHeader struct {
	family, dstLen, srcLen, tos uint8
	table, _, _, action         uint8
	flags                       uint32
}

// decodeRule reads the payload of an RTM_NEWRULE message: struct fib_rule_hdr
// and attributes.
func decodeRule(b []byte) (routing.Rule, error) {
	h, list, err := decode[ruleHeader](b)
	family, familyErr := familyOf(h.family)
	if err := cmp.Or(err, familyErr); err != nil {
		return routing.Rule{}, fmt.Errorf("decode rule: %w", err)
	}
	r := routing.NewRule(family, 0, uint32(h.table))
	r.Action = routing.Action(h.action)
	r.Not = h.flags&unix.FIB_RULE_INVERT != 0
	var more []attr
	for _, a := range list {
		known, err := ruleField(&r, a, int(h.dstLen), int(h.srcLen))
		if err != nil {
			return routing.Rule{},
				fmt.Errorf("decode rule: attribute %d: %w", a.kind, err)
		}
		if !known {
			more = append(more, a)
		}
	}
	r.Opaque = opaqueSelectors(h.tos, more)
	return r, nil
}

// selectorOrder is iproute2's order of the selectors that are not modelled;
// other words stand between these and the last two.
var selectorOrder = []int{unix.FRA_UID_RANGE, unix.FRA_IP_PROTO, unix.FRA_SPORT_RANGE,
	unix.FRA_DPORT_RANGE, unix.FRA_TUN_ID, fraDSCP}

func opaqueSelectors(tos byte, list []attr) string {
	rank := func(a attr) int {
		if i := slices.Index(selectorOrder, a.kind); i >= 0 {
			return i
		}
		return len(selectorOrder) +
			slices.Index([]int{0, unix.FRA_FLOW, unix.FRA_L3MDEV}, a.kind) + 1
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

// ruleField sets the field of a modelled attribute and reports whether it is
// one.
func ruleField(r *routing.Rule, a attr, dstLen, srcLen int) (bool, error) {
	var err error
	switch a.kind {
	case unix.FRA_DST:
		r.To, err = a.prefix(dstLen)
	case unix.FRA_SRC:
		r.From, err = a.prefix(srcLen)
	case unix.FRA_IIFNAME:
		r.IIF = a.string()
	case unix.FRA_OIFNAME:
		r.OIF = a.string()
	case unix.FRA_GOTO:
		r.Goto = int(a.uint())
	case unix.FRA_PRIORITY:
		r.Priority = int(a.uint())
	case unix.FRA_FWMARK:
		r.Mark = a.uint()
	case unix.FRA_FWMASK:
		r.Mask = a.uint()
	case unix.FRA_SUPPRESS_IFGROUP:
		r.SuppressGroup = int(int32(a.uint()))
	case unix.FRA_SUPPRESS_PREFIXLEN:
		r.SuppressPrefix = int(int32(a.uint()))
	case unix.FRA_TABLE:
		r.Table = a.uint()
	case unix.FRA_PROTOCOL:
		r.Protocol = uint8(a.uint())
	case unix.FRA_PAD:
	default:
		return false, nil
	}
	return true, err
}

// protocolNames are the names that `ip rule` has for protocols on every machine
// (/etc/protocols has more, if it exists).
var protocolNames = map[uint32]string{unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_TCP: "tcp",
	unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMPV6: "ipv6-icmp"}

// ruleOpaque prints a selector that is not modelled, in the words of `ip rule`
// if it has any. It returns "" if the selector has no effect: since 6.15 the
// kernel sends masks that select the whole value.
func ruleOpaque(a attr) string {
	switch v := a.uint(); {
	case a.kind == unix.FRA_L3MDEV && v == 0, a.kind == fraSportMask && v == 0xffff,
		a.kind == fraDportMask && v == 0xffff,
		a.kind == fraDSCPMask && v == 0x3f:
		return ""
	case a.kind == unix.FRA_L3MDEV:
		return "l3mdev"
	case a.kind == unix.FRA_IP_PROTO && protocolNames[v] != "":
		return "ipproto " + protocolNames[v]
	case a.kind == unix.FRA_IP_PROTO:
		return fmt.Sprintf("ipproto %d", v)
	case a.kind == unix.FRA_SPORT_RANGE && len(a.value) == 4:
		return "sport " + span(a.value)
	case a.kind == unix.FRA_DPORT_RANGE && len(a.value) == 4:
		return "dport " + span(a.value)
	case a.kind == unix.FRA_UID_RANGE && len(a.value) == 8:
		return fmt.Sprintf("uidrange %d-%d", native.Uint32(a.value),
			native.Uint32(a.value[4:]))
	case a.kind == fraDSCP:
		return fmt.Sprintf("dscp %d", v)
	case a.kind == unix.FRA_TUN_ID && len(a.value) == 8:
		return fmt.Sprintf("tun_id %d", binary.BigEndian.Uint64(a.value))
	case a.kind == unix.FRA_FLOW:
		return printRealms("realms", v)
	}
	return printUnknown(a)
}

// span reads struct fib_rule_port_range.
func span(b []byte) string {
	first, last := native.Uint16(b), native.Uint16(b[2:])
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// encodeRule writes the payload of RTM_NEWRULE and RTM_DELRULE. It includes
// every field: the kernel deletes the first rule that agrees with the fields
// sent, whichever program owns it.
func encodeRule(r routing.Rule) []byte {
	h := ruleHeader{family: afOf(r.Family), action: uint8(r.Action)}
	if r.Table < 256 {
		h.table = uint8(r.Table)
	}
	if r.Not {
		h.flags = unix.FIB_RULE_INVERT
	}
	h.dstLen, h.srcLen = uint8(max(r.To.Bits(), 0)), uint8(max(r.From.Bits(), 0))
	known, _ := r.Selectors()
	for _, s := range known {
		if s[0] == "tos" {
			tos, _ := strconv.ParseUint(s[1], 0, 8)
			h.tos = uint8(tos)
		}
	}
	m := newMessage(h)
	m.putAddr(unix.FRA_DST, r.To.Addr())
	m.putAddr(unix.FRA_SRC, r.From.Addr())
	m.putUint32(unix.FRA_PRIORITY, uint32(r.Priority))
	m.putNumber(unix.FRA_TABLE, r.Table)
	m.put(unix.FRA_PROTOCOL, []byte{r.Protocol})
	m.putString(unix.FRA_IIFNAME, r.IIF)
	m.putString(unix.FRA_OIFNAME, r.OIF)
	if r.Mark != 0 || r.Mask != 0 {
		m.putUint32(unix.FRA_FWMARK, r.Mark)
		m.putUint32(unix.FRA_FWMASK, r.Mask)
	}
	if r.SuppressPrefix != routing.None {
		m.putUint32(unix.FRA_SUPPRESS_PREFIXLEN, uint32(r.SuppressPrefix))
	}
	if r.SuppressGroup != routing.None {
		m.putUint32(unix.FRA_SUPPRESS_IFGROUP, uint32(r.SuppressGroup))
	}
	if r.Action == routing.Goto {
		m.putUint32(unix.FRA_GOTO, uint32(r.Goto))
	}
	for _, s := range known {
		m.putSelector(s[0], s[1])
	}
	return m.data
}

// putSelector is the inverse of ruleOpaque for what routing.Rule.Selectors
// knows.
func (m *message) putSelector(key, value string) {
	first, last := routing.Span(value)
	switch key {
	case "ipproto":
		m.put(unix.FRA_IP_PROTO, []byte{routing.ProtocolNumber(value)})
	case "sport", "dport":
		kind := map[string]int{"sport": unix.FRA_SPORT_RANGE,
			"dport": unix.FRA_DPORT_RANGE}[key]
		m.put(kind, native.AppendUint16(native.AppendUint16(nil, uint16(first)),
			uint16(last)))
	case "realms":
		from, to, both := strings.Cut(value, "/")
		if !both {
			from, to = "0", from
		}
		x, _ := strconv.ParseUint(from, 10, 16)
		y, _ := strconv.ParseUint(to, 10, 16)
		m.putUint32(unix.FRA_FLOW, uint32(x<<16|y))
	case "uidrange":
		m.put(unix.FRA_UID_RANGE,
			native.AppendUint32(native.AppendUint32(nil, first), last))
	}
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
