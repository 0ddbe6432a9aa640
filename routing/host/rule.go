package host

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// Attributes of rules (include/uapi/linux/fib_rules.h). x/sys knows a part of them.
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

// decodeRule reads the payload of an RTM_NEWRULE message: struct fib_rule_hdr and attributes.
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
	var opaque []string
	if b[3] != 0 {
		opaque = append(opaque, fmt.Sprintf("tos %#x", b[3]))
	}
	l3mdev := false
	for _, a := range list {
		known, err := ruleField(&r, a, int(b[1]), int(b[2]))
		if err != nil {
			return routing.Rule{}, fmt.Errorf("decode rule: attribute %d: %w", a.kind, err)
		}
		switch {
		case known:
		case a.kind == fraL3mdev:
			l3mdev = a.uint() != 0
		default:
			opaque = append(opaque, ruleOpaque(a)...)
		}
	}
	if l3mdev {
		opaque = append(opaque, "l3mdev")
	}
	r.Opaque = strings.Join(opaque, " ")
	return r, nil
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

// ruleOpaque prints a selector that is not modelled, as `ip rule` does where it knows it. Masks that select the whole value say
// nothing; the kernel sends them since 6.15.
func ruleOpaque(a attr) []string {
	pair := func(size int) (uint64, uint64, bool) {
		switch {
		case len(a.value) != 2*size:
			return 0, 0, false
		case size == 2:
			return uint64(native.Uint16(a.value)), uint64(native.Uint16(a.value[2:])), true
		}
		return uint64(native.Uint32(a.value)), uint64(native.Uint32(a.value[4:])), true
	}
	switch a.kind {
	case fraIPProto:
		name := map[uint32]string{1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp"}[a.uint()]
		if name == "" {
			name = fmt.Sprint(a.uint())
		}
		return []string{"ipproto " + name}
	case fraSportRange, fraDportRange:
		key := map[int]string{fraSportRange: "sport", fraDportRange: "dport"}[a.kind]
		if lo, hi, ok := pair(2); ok && lo == hi {
			return []string{fmt.Sprintf("%s %d", key, lo)}
		} else if ok {
			return []string{fmt.Sprintf("%s %d-%d", key, lo, hi)}
		}
	case fraUIDRange:
		if lo, hi, ok := pair(4); ok {
			return []string{fmt.Sprintf("uidrange %d-%d", lo, hi)}
		}
	case fraDSCP:
		return []string{fmt.Sprintf("dscp %d", a.uint())}
	case fraSportMask, fraDportMask:
		if a.uint() == 0xffff {
			return nil
		}
	case fraDSCPMask:
		if a.uint() == 0x3f {
			return nil
		}
	case fraTunID:
		if len(a.value) == 8 {
			return []string{fmt.Sprintf("tun_id %d", binary.BigEndian.Uint64(a.value))}
		}
	case fraFlow:
		return []string{printRealms("realms", a.uint())}
	}
	return []string{printUnknown(a)}
}

// encodeRule writes the payload of RTM_NEWRULE and RTM_DELRULE. Every field goes in: the kernel deletes the first rule that
// agrees in what is sent, whoever owns it.
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
