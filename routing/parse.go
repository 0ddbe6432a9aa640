package routing

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// scanner hands out the words of an `ip` line. It refuses a key that comes
// twice: the last one would win silently.
type scanner struct {
	left []string
	seen map[string]bool
}

// scan splits at ASCII white space only, as the kernel does when it judges a
// link's name (dev_valid_name): other white space may be part of one.
func scan(s string) *scanner {
	words := strings.FieldsFunc(s, func(r rune) bool {
		return r < 128 && strings.ContainsRune(" \t\n\v\f\r", r)
	})
	return &scanner{left: words, seen: map[string]bool{}}
}

func (s *scanner) peek() string {
	if len(s.left) == 0 {
		return ""
	}
	return s.left[0]
}

func (s *scanner) next() string {
	w := s.peek()
	if w != "" {
		s.left = s.left[1:]
	}
	return w
}

// once returns an error the second time it is called with a name.
func (s *scanner) once(name string) error {
	if s.seen[name] {
		return fmt.Errorf("%s is given twice", name)
	}
	s.seen[name] = true
	return nil
}

// value calls set with the word after a key.
func (s *scanner) value(key string, set func(string) error) error {
	if s.peek() == "" {
		return fmt.Errorf("nothing after %s", key)
	}
	return set(s.next())
}

// valueOnce is value, and an error the second time that it is called with a
// name.
func (s *scanner) valueOnce(key, name string, set func(string) error) error {
	if err := s.once(name); err != nil {
		return err
	}
	return s.value(key, set)
}

// ParseRule reads a rule of the family in the form of Rule.String or Rule.Args,
// or as `ip -N -d rule` prints it. It keeps selectors that Rule does not model
// in Opaque. A rule without priority is an error: the kernel chooses one.
func ParseRule(f Family, line string) (Rule, error) {
	r := NewRule(f, 0, 0)
	p := ruleParser{Rule: &r, scanner: scan(line)}
	if err := p.parse(); err != nil {
		return Rule{}, fmt.Errorf("parse rule %q: %w", line, err)
	}
	return r, nil
}

type ruleParser struct {
	*Rule
	*scanner
	opaque []string
}

// ruleKeys are the words before a value, and the field that the value sets.
// Aliases set the same field, so that both together are refused.
var ruleKeys = map[string]string{"pref": "priority", "priority": "priority",
	"preference": "priority", "order": "priority", "from": "from", "to": "to",
	"fwmark": "fwmark", "iif": "iif", "dev": "iif", "oif": "oif", "lookup": "table",
	"table": "table", "suppress_prefixlength": "suppress_prefixlength",
	"suppress_ifgroup": "suppress_ifgroup", "goto": "action", "proto": "protocol",
	"protocol": "protocol"}

func (p *ruleParser) set(what, s string) error {
	switch what {
	case "priority":
		return setInt(&p.Priority, s)
	case "from":
		return setSelector(&p.From, p.Family, s)
	case "to":
		return setSelector(&p.To, p.Family, s)
	case "fwmark":
		return setMark(p.Rule, s)
	case "iif":
		p.IIF = s
	case "oif":
		p.OIF = s
	case "table":
		return setTable(&p.Table, s)
	case "suppress_prefixlength":
		return setInt(&p.SuppressPrefix, s)
	case "suppress_ifgroup":
		return setGroup(&p.SuppressGroup, s)
	case "action":
		p.Action = Goto
		return setInt(&p.Goto, s)
	case "protocol":
		return setProtocol(&p.Protocol, s)
	}
	return nil
}

// opaqueSelectors are kept as they are, with the one word after each.
var opaqueSelectors = []string{"tos", "dsfield", "dscp", "uidrange", "ipproto", "sport", "dport",
	"tun_id", "realms", "flowlabel"}

func (p *ruleParser) parse() error {
	if number, ok := strings.CutSuffix(p.peek(), ":"); ok {
		p.left = append([]string{"pref", number}, p.left[1:]...)
	}
	for len(p.left) > 0 {
		if err := p.word(p.next()); err != nil {
			return err
		}
	}
	if !p.seen["priority"] {
		return errors.New("no priority")
	}
	if p.seen[l3mdev] {
		p.opaque = append(p.opaque, l3mdev)
	}
	p.Opaque = strings.Join(p.opaque, " ")
	if p.Action == ToTable && p.Table == 0 && !p.seen[l3mdev] {
		p.Table = TableMain // as `ip rule add` does
	}
	return nil
}

func (p *ruleParser) word(key string) error {
	if (key == "lookup" || key == "table") && p.peek() == "[l3mdev-table]" {
		p.next()
		key = l3mdev
	}
	if what, ok := ruleKeys[key]; ok {
		return p.valueOnce(key, what, func(s string) error { return p.set(what, s) })
	}
	switch key {
	case "[detached]", "[unresolved]": // the kernel's remarks on iif, oif and goto
		return nil
	case "not":
		p.Not = true
		return p.once(key)
	case l3mdev:
		if p.seen["table"] {
			return errors.New("l3mdev and a table")
		}
		return p.once(key)
	}
	if action, ok := actionNames.parse(key); ok && actionNames[action] != "" {
		p.Action = action
		return p.once("action")
	}
	if !slices.Contains(opaqueSelectors, key) {
		return fmt.Errorf("unknown word %q", key)
	}
	return p.valueOnce(key, key, func(s string) error {
		if key == "ipproto" {
			s = ipProtocol(s)
		}
		p.opaque = append(p.opaque, key, s)
		return nil
	})
}

// ipProtocol turns the number that `ip -N` shows, "ipproto-6", into the word
// that all other texts use.
func ipProtocol(s string) string {
	s = strings.TrimPrefix(s, "ipproto-")
	return cmp.Or(ipProtocols[ProtocolNumber(s)], s)
}

// ipProtocols are the words for IPPROTO_*.
var ipProtocols = map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp"}

// ParseRoute reads a route of the family in the form of Route.String or as `ip
// -N -d route show table all` prints it. It supplies what `ip route add`
// supplies if a word is missing. It keeps attributes that Route does not model
// in Opaque. It drops expires, error and flags of offloading.
func ParseRoute(f Family, line string) (Route, error) {
	p := routeParser{scanner: scan(line), family: f}
	if err := p.parse(); err != nil {
		return Route{}, fmt.Errorf("parse route %q: %w", line, err)
	}
	return p.Route, nil
}

type routeParser struct {
	Route
	*scanner
	family      Family
	hop         Hop
	nexthops    bool // after the first `nexthop`
	first, more []string
}

// routeKeys are the words before a value, and the field that the value sets:
// none if the value is dropped.
var routeKeys = map[string]string{"table": "table", "metric": "metric", "proto": "protocol",
	"protocol": "protocol", "scope": "scope", "src": "src", "mtu": "mtu", "advmss": "advmss",
	"pref": "pref", "expires": "expires", "error": "error"}

func (p *routeParser) set(what, s string) error {
	switch what {
	case "table":
		return setTable(&p.Table, s)
	case "metric":
		return setUint32(&p.Metric, s)
	case "protocol":
		return setProtocol(&p.Protocol, s)
	case "scope":
		return p.setScope(s)
	case "src":
		return setAddr(&p.Src, p.family, s)
	case "mtu":
		return setUint32(&p.MTU, s)
	case "advmss":
		return setUint32(&p.AdvMSS, s)
	case "pref":
		return p.setPref(s)
	}
	return nil
}

// opaqueAttributes are kept unchanged. mtu and advmss are kept only if they are
// locked.
var opaqueAttributes = []string{"nhid", "realm", "realms", "window", "rtt", "rttvar", "rto_min",
	"ssthresh", "cwnd", "initcwnd", "initrwnd", "reordering", "hoplimit", "features",
	"quickack", "congctl", "fastopen_no_cookie", "ttl-propagate", "mtu", "advmss"}

func (p *routeParser) parse() error {
	p.Type = Unicast
	if t, ok := typeNames.parse(p.peek()); ok && typeNames[t] != "" {
		p.Type = t
		p.next()
	}
	dst, err := parsePrefix(p.family, p.next())
	if err != nil {
		return err
	}
	p.RouteKey = RouteKey{Table: tableOf(p.Type), Dst: dst, Metric: metricOf(p.family)}
	p.Protocol = protocolBoot
	for len(p.left) > 0 {
		if err := p.word(p.next()); err != nil {
			return err
		}
	}
	return p.finish()
}

func (p *routeParser) word(key string) error {
	if what, ok := routeKeys[key]; ok && !p.nexthops && p.peek() != "lock" {
		return p.valueOnce(key, what, func(s string) error { return p.set(what, s) })
	}
	if used, err := p.hopWord(key); used || err != nil {
		return err
	}
	if p.nexthops {
		return fmt.Errorf("%q of a next hop is not modelled", key)
	}
	switch key {
	case "offload", "trap", "rt_offload", "rt_trap", "rt_offload_failed", "offload_failed",
		"pervasive", "notify":
	case "encap": // its arguments have keys of their own; it ends where the next hop begins
		p.more = append(p.more, key)
		for len(p.left) > 0 && !slices.Contains(hopKeys, p.peek()) {
			p.more = append(p.more, p.next())
		}
	case "tos", "dsfield", "from": // first: they say which packets the route is for
		return p.valueOnce(key, key, func(s string) error {
			p.first = append(p.first, key, s)
			return nil
		})
	default:
		return p.opaque(key)
	}
	return nil
}

// opaque keeps an attribute unchanged, with the one word after it, or two if a
// metric is locked: "mtu lock 1400".
func (p *routeParser) opaque(key string) error {
	if !slices.Contains(opaqueAttributes, key) {
		return fmt.Errorf("unknown word %q", key)
	}
	if err := p.once(key); err != nil {
		return err
	}
	p.more = append(p.more, key)
	if p.peek() == "lock" {
		p.more = append(p.more, p.next())
	}
	return p.value(key, func(s string) error {
		p.more = append(p.more, s)
		return nil
	})
}

// hopKeys begin a next hop, and end an encap in front of it.
var hopKeys = []string{"via", "dev", "nexthop"}

// ownEncap reads an encap with lasthop's program. All next hops have the same.
func (p *routeParser) ownEncap() bool {
	if len(p.left) < 3 || p.left[0] != "bpf" || p.left[1] != "xmit" ||
		!strings.HasPrefix(p.left[2], LastHopPrefix) ||
		len(p.left) > 3 && !slices.Contains(hopKeys, p.left[3]) ||
		p.Encap != "" && p.Encap != p.left[2] {
		return false
	}
	p.Encap, p.left = p.left[2], p.left[3:]
	return true
}

// hopWord reads one attribute of a next hop, or the word `nexthop`, which
// begins the next one.
func (p *routeParser) hopWord(key string) (used bool, err error) {
	switch key {
	case "encap":
		return p.ownEncap(), nil
	case `\`:
		return p.peek() == "nexthop", nil // how `ip -o` joins lines
	case "nexthop":
		if p.nexthops || p.hop != (Hop{}) {
			if err := p.endHop(); err != nil {
				return true, err
			}
		}
		p.nexthops = true
	case "via":
		f := p.family
		if p.peek() == "inet6" {
			p.next()
			f = IPv6
		}
		err = p.hopValue(key, func(s string) error { return setAddr(&p.hop.Via, f, s) })
	case "dev":
		err = p.hopValue(key, func(s string) error { p.hop.Link = s; return nil })
	case "weight":
		err = p.hopValue(key, func(s string) error { return setWeight(&p.hop.Weight, s) })
	case "onlink":
		p.hop.OnLink = true
	case "dead":
		p.hop.Dead = true
	case "linkdown":
		p.hop.LinkDown = true
	default:
		return false, nil
	}
	return true, err
}

func (p *routeParser) hopValue(key string, set func(string) error) error {
	return p.valueOnce(key, fmt.Sprint(key, " of next hop ", len(p.Hops)), set)
}

func (p *routeParser) endHop() error {
	if p.hop.Link == "" {
		return errors.New("next hop without dev")
	}
	p.hop.Weight = max(p.hop.Weight, 1)
	p.Hops = append(p.Hops, p.hop)
	p.hop = Hop{}
	return nil
}

func (p *routeParser) finish() error {
	p.Opaque = strings.Join(append(p.first, p.more...), " ")
	if p.Type.Rejects() || p.Type == Throw {
		p.Hops, p.Encap = nil, "" // of IPv6 ones the kernel shows `dev lo`
	} else if err := p.endHop(); err != nil {
		return err
	}
	if len(p.Hops) == 1 {
		p.Hops[0].Weight = 1
	}
	if !p.seen["scope"] {
		p.Scope = scopeOf(p.Route)
		if p.nexthops && p.Type == Unicast {
			p.Scope = ScopeGlobal
		}
	}
	return nil
}

func (p *routeParser) setScope(s string) error {
	scope, ok := scopeNames.parse(s)
	if !ok && s != "universe" {
		return fmt.Errorf("scope %q", s)
	}
	if p.family == IPv4 {
		p.Scope = scope
	}
	return nil
}

func (p *routeParser) setPref(s string) (err error) {
	for v, name := range prefNames {
		if name == s {
			p.Pref = v
			return nil
		}
	}
	return fmt.Errorf("pref %q: want low, medium or high", s)
}

func setInt(v *int, s string) error {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil || n < 0 || n > 1<<32-1 {
		return fmt.Errorf("number %q", s)
	}
	*v = int(n)
	return nil
}

func setUint32(v *uint32, s string) error {
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return fmt.Errorf("number %q", s)
	}
	*v = uint32(n)
	return nil
}

func setWeight(v *int, s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 256 {
		return fmt.Errorf("weight %q: want 1 to 256", s)
	}
	*v = n
	return nil
}

func setGroup(v *int, s string) error {
	if s == "default" {
		s = "0"
	}
	return setInt(v, s)
}

func setTable(v *uint32, s string) error {
	table, ok := tableNames.parse(s)
	if !ok {
		return fmt.Errorf("table %q: names other than local, main and default are not "+
			"known here: give the number", s)
	}
	*v = table
	return nil
}

func setProtocol(v *uint8, s string) error {
	protocol, ok := protocolNames.parse(s)
	if !ok {
		if protocol, ok = moreProtocols[s]; !ok {
			return fmt.Errorf("protocol %q: give the number", s)
		}
	}
	*v = protocol
	return nil
}

func setMark(r *Rule, s string) error {
	value, mask, masked := strings.Cut(s, "/")
	r.Mask = 0xffffffff
	if masked {
		if err := setUint32(&r.Mask, mask); err != nil {
			return err
		}
	}
	return setUint32(&r.Mark, value)
}

func setAddr(v *netip.Addr, f Family, s string) error {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return err
	}
	if FamilyOf(a) != f || a.Zone() != "" {
		return fmt.Errorf("%s is no %s address", s, f)
	}
	*v = a
	return nil
}

// setSelector reads what stands after from and to. All addresses are the zero
// Prefix.
func setSelector(v *netip.Prefix, f Family, s string) error {
	if s == "all" || s == "any" || s == "default" {
		return nil
	}
	p, err := parsePrefix(f, s)
	if err == nil && p.Bits() > 0 {
		*v = p
	}
	return err
}

// parsePrefix reads a destination: an address, a prefix without host bits, or
// "default".
func parsePrefix(f Family, s string) (netip.Prefix, error) {
	if s == "default" {
		return f.All(), nil
	}
	if s == "" {
		return netip.Prefix{}, errors.New("no destination")
	}
	if !strings.Contains(s, "/") {
		var a netip.Addr
		err := setAddr(&a, f, s)
		return netip.PrefixFrom(a, a.BitLen()), err
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, err
	case FamilyOf(p.Addr()) != f:
		return netip.Prefix{}, fmt.Errorf("%s is no %s prefix", s, f)
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("%s has host bits: %s?", s, p.Masked())
	}
	return p, nil
}
