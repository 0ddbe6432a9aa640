package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

const (
	routeHeader   = 12    // struct rtmsg
	hopHeader     = 8     // struct rtnexthop
	nextHopHeader = 8     // struct nhmsg
	cloned        = 0x200 // RTM_F_CLONED
	lookupTable   = 0x1000
)

// Attributes that x/sys has no name for.
const (
	rtaVia     = 18
	rtaPref    = 20
	rtaEncapT  = 21
	rtaEncap   = 22
	rtaExpires = 23
	rtaPad     = 24
	rtaUID     = 25
	rtaTTL     = 26
	rtaNextHop = 30
)

// encapNames are iproute2's words for LWTUNNEL_ENCAP_*.
var encapNames = map[uint32]string{1: "mpls", 2: "ip", 3: "ila", 4: "ip6", 5: "seg6", 6: "bpf",
	7: "seg6local", 8: "rpl", 9: "ioam6", 10: "xfrm"}

// names gives links their names, and next hops by id their hops.
type names struct {
	links map[int]string
	hops  map[uint32][]routing.Hop
}

// errNewLink says that something belongs to a link that is not listed: links
// are read first, so it came since. What belongs to it is left out, as if the
// host had been read a moment earlier; the event of its coming makes the daemon
// look again.
var errNewLink = errors.New("link is not listed")

func (n names) link(index uint32) (string, error) {
	name, ok := n.links[int(index)]
	if !ok {
		return "", errNewLink
	}
	return name, nil
}

// decodeRoute reads the payload of an RTM_NEWROUTE message: struct rtmsg and
// attributes. ok is false for an entry that is no route of a table: a cached
// one, one of another family, or one of a link that is not listed.
func decodeRoute(b []byte, n names) (r routing.Route, ok bool, err error) {
	if len(b) < routeHeader {
		return r, false, fmt.Errorf("decode route: %w", errShort)
	}
	family, err := familyOf(b[0])
	if err != nil || native.Uint32(b[8:])&cloned != 0 {
		return r, false, nil
	}
	list, err := attrs(b[routeHeader:])
	if err != nil {
		return r, false, fmt.Errorf("decode route: %w", err)
	}
	d := routeDecoder{names: n, family: family, header: b}
	d.route = routing.Route{RouteKey: routing.RouteKey{Table: uint32(b[4]), Dst: family.All()},
		Protocol: b[5], Scope: b[6], Type: routing.RouteType(b[7])}
	for _, a := range list {
		if err := d.attr(a); errors.Is(err, errNewLink) {
			return r, false, nil
		} else if err != nil {
			return r, false, fmt.Errorf("decode route: attribute %d: %w", a.kind, err)
		}
	}
	return d.finish(), true, nil
}

type routeDecoder struct {
	names
	family  routing.Family
	header  []byte
	route   routing.Route
	hop     routing.Hop
	hasHop  bool
	nextHop uint32
	from    netip.Prefix
	encap   []string
	metrics []string
	other   []string
}

func (d *routeDecoder) attr(a attr) (err error) {
	r := &d.route
	switch a.kind {
	case unix.RTA_DST:
		r.Dst, err = a.prefix(int(d.header[1]))
	case unix.RTA_SRC:
		d.from, err = a.prefix(int(d.header[2]))
	case unix.RTA_OIF:
		d.hasHop = true
		d.hop.Link, err = d.link(a.uint())
	case unix.RTA_GATEWAY, rtaVia:
		d.hop.Via, err = gatewayOf(a)
	case unix.RTA_PRIORITY:
		r.Metric = a.uint()
	case unix.RTA_PREFSRC:
		r.Src, err = a.addr()
	case unix.RTA_METRICS:
		d.metrics, err = decodeMetrics(r, a.value)
	case unix.RTA_MULTIPATH:
		r.Hops, err = d.multipath(a.value)
	case unix.RTA_TABLE:
		r.Table = a.uint()
	case rtaPref:
		r.Pref = map[uint32]int8{3: -1, 1: 1}[a.uint()]
	case rtaNextHop:
		d.nextHop = a.uint()
	default:
		d.more(a)
	}
	return err
}

// more keeps an attribute of the route or of one of its hops that is not
// modelled.
func (d *routeDecoder) more(a attr) {
	switch a.kind {
	case unix.RTA_CACHEINFO, rtaExpires, rtaPad, rtaUID, rtaEncap:
		// volatile, padding, or said by rtaEncapT
	case rtaEncapT:
		name := encapNames[a.uint()]
		if name == "" {
			name = fmt.Sprint(a.uint())
		}
		d.encap = append(d.encap, "encap "+name)
	case unix.RTA_FLOW:
		d.other = append(d.other, printRealms("realm", a.uint()))
	case rtaTTL:
		d.other = append(d.other, "ttl-propagate "+
			map[bool]string{true: "enabled", false: "disabled"}[a.uint() != 0])
	default:
		d.other = append(d.other, printUnknown(a))
	}
}

// printRealms prints RTA_FLOW: "realm 7", or "realms 3/7" with a source realm.
func printRealms(one string, v uint32) string {
	if v>>16 != 0 {
		return fmt.Sprintf("realms %d/%d", v>>16, v&0xffff)
	}
	return fmt.Sprintf("%s %d", one, v&0xffff)
}

// opaque puts what is not modelled in iproute2's order, the selectors first.
// Each is said once: all hops of a route may have it.
func (d *routeDecoder) opaque() string {
	var w []string
	if d.from.IsValid() {
		w = append(w, "from "+d.from.String())
	}
	if tos := d.header[3]; tos != 0 {
		w = append(w, fmt.Sprintf("tos %#x", tos))
	}
	if d.nextHop != 0 && len(d.route.Hops) == 0 && !rejects(d.route.Type) {
		w = append(w, fmt.Sprintf("nhid %d", d.nextHop))
	}
	for _, s := range slices.Concat(d.encap, d.metrics, d.other) {
		if !slices.Contains(w, s) {
			w = append(w, s)
		}
	}
	return strings.Join(w, " ")
}

// rejects says whether routes of the type have no next hop.
func rejects(t routing.RouteType) bool { return t.Rejects() || t == routing.Throw }

// gatewayOf reads RTA_GATEWAY, an address, or RTA_VIA, a family and an address.
func gatewayOf(a attr) (netip.Addr, error) {
	if a.kind == rtaVia && len(a.value) > 2 {
		a.value = a.value[2:]
	}
	return a.addr()
}

// multipath reads a sequence of struct rtnexthop with attributes.
func (d *routeDecoder) multipath(b []byte) ([]routing.Hop, error) {
	var hops []routing.Hop
	for len(b) >= hopHeader {
		size := int(native.Uint16(b))
		if size < hopHeader || size > len(b) {
			return nil, errShort
		}
		link, err := d.link(native.Uint32(b[4:]))
		if err != nil {
			return nil, err
		}
		h := routing.Hop{Link: link, Weight: int(b[3]) + 1}
		setFlags(&h, uint32(b[2]))
		list, err := attrs(b[hopHeader:size])
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			if a.kind != unix.RTA_GATEWAY && a.kind != rtaVia {
				d.more(a)
			} else if h.Via, err = gatewayOf(a); err != nil {
				return nil, err
			}
		}
		hops = append(hops, h)
		b = b[min(align(size), len(b)):]
	}
	return hops, nil
}

func setFlags(h *routing.Hop, flags uint32) {
	h.Dead = flags&unix.RTNH_F_DEAD != 0
	h.LinkDown = flags&unix.RTNH_F_LINKDOWN != 0
	h.OnLink = flags&unix.RTNH_F_ONLINK != 0
}

func (d *routeDecoder) finish() routing.Route {
	r := d.route
	if len(r.Hops) == 0 && d.hasHop {
		d.hop.Weight = 1
		setFlags(&d.hop, native.Uint32(d.header[8:]))
		r.Hops = []routing.Hop{d.hop}
	}
	if len(r.Hops) == 0 && d.nextHop != 0 {
		// With nexthop_compat_mode=0 the kernel names the next hop and
		// does not spell it out.
		r.Hops = slices.Clone(d.hops[d.nextHop])
	}
	if d.family == routing.IPv6 {
		r.Scope = 0
		if r.Metric == 0 && r.Type == routing.Unicast {
			r.Metric = 1024
		}
	}
	if rejects(r.Type) {
		r.Hops = nil // IPv6 keeps them on lo
	}
	d.route = r
	r.Opaque = d.opaque()
	return r
}

// nextHop is a next hop object: a hop, or the members of a group in the
// kernel's order.
type nextHop struct {
	id      uint32
	hop     routing.Hop
	members []member
}

type member struct {
	id     uint32
	weight int
}

// decodeNextHop reads the payload of an RTM_NEWNEXTHOP message: struct nhmsg
// and attributes.
func decodeNextHop(b []byte, n names) (nextHop, error) {
	var h nextHop
	if len(b) < nextHopHeader {
		return h, fmt.Errorf("decode next hop: %w", errShort)
	}
	list, err := attrs(b[nextHopHeader:])
	if err != nil {
		return h, fmt.Errorf("decode next hop: %w", err)
	}
	h.hop.Weight = 1
	setFlags(&h.hop, native.Uint32(b[4:]))
	for _, a := range list {
		switch a.kind {
		case unix.NHA_ID:
			h.id = a.uint()
		case unix.NHA_OIF:
			h.hop.Link, _ = n.link(a.uint()) // without a link it resolves nothing
		case unix.NHA_GATEWAY:
			if h.hop.Via, err = a.addr(); err != nil {
				return h, fmt.Errorf("decode next hop: %w", err)
			}
		case unix.NHA_GROUP: // a sequence of struct nexthop_grp
			for v := a.value; len(v) >= 8; v = v[8:] {
				h.members = append(h.members,
					member{native.Uint32(v), int(v[4]) + 1})
			}
		}
	}
	return h, nil
}

// encodeRoute writes the payload of RTM_NEWROUTE. index gives links their
// numbers.
func encodeRoute(r routing.Route, index map[string]int) ([]byte, error) {
	m := routeMessage(r)
	m.data[6] = r.Scope
	if r.Src.IsValid() {
		m.putAddr(unix.RTA_PREFSRC, r.Src)
	}
	if r.MTU != 0 || r.AdvMSS != 0 {
		var inner message
		if r.MTU != 0 {
			inner.putUint32(metricMTU, r.MTU)
		}
		if r.AdvMSS != 0 {
			inner.putUint32(metricAdvMSS, r.AdvMSS)
		}
		m.put(unix.RTA_METRICS, inner.data)
	}
	if r.Pref != 0 {
		m.put(rtaPref, []byte{uint8(r.Pref) & 3}) // ICMPV6_ROUTER_PREF_*: 1 high, 3 low
	}
	for _, h := range r.Hops {
		if index[h.Link] == 0 {
			return nil, fmt.Errorf("no link %s: %w", h.Link, unix.ENODEV)
		}
	}
	switch len(r.Hops) {
	case 0:
	case 1:
		h := r.Hops[0]
		if h.OnLink {
			native.PutUint32(m.data[8:], unix.RTNH_F_ONLINK)
		}
		m.putGateway(r.Family(), h.Via)
		m.putUint32(unix.RTA_OIF, uint32(index[h.Link]))
	default:
		m.put(unix.RTA_MULTIPATH, encodeHops(r, index))
	}
	return m.data, nil
}

// routeMessage writes what identifies a route.
func routeMessage(r routing.Route) message {
	m := message{make([]byte, routeHeader)}
	m.data[0], m.data[1], m.data[5], m.data[7] = afOf(r.Family()), byte(r.Dst.Bits()),
		r.Protocol, byte(r.Type)
	if r.Table < 256 {
		m.data[4] = byte(r.Table)
	}
	m.putUint32(unix.RTA_TABLE, r.Table)
	if r.Dst.Bits() > 0 {
		m.putAddr(unix.RTA_DST, r.Dst.Addr())
	}
	if r.Metric != 0 {
		m.putUint32(unix.RTA_PRIORITY, r.Metric)
	}
	return m
}

// encodeRouteKey writes the payload of RTM_DELROUTE: key, type and protocol, no
// next hops, any scope. So the kernel deletes the route of that key, and only
// one of ours.
func encodeRouteKey(r routing.Route) []byte {
	m := routeMessage(r)
	m.data[6] = unix.RT_SCOPE_NOWHERE
	return m.data
}

func (m *message) putGateway(f routing.Family, via netip.Addr) {
	switch {
	case !via.IsValid():
	case routing.FamilyOf(via) == f:
		m.putAddr(unix.RTA_GATEWAY, via)
	default: // an IPv4 route by an IPv6 router (RFC 5549)
		m.put(rtaVia, append(native.AppendUint16(nil, uint16(afOf(routing.FamilyOf(via)))),
			via.AsSlice()...))
	}
}

func encodeHops(r routing.Route, index map[string]int) []byte {
	var out []byte
	for _, h := range r.Hops {
		var m message
		m.putGateway(r.Family(), h.Via)
		var flags byte
		if h.OnLink {
			flags = unix.RTNH_F_ONLINK
		}
		out = native.AppendUint16(out, uint16(hopHeader+len(m.data)))
		out = append(out, flags, byte(max(h.Weight, 1)-1))
		out = native.AppendUint32(out, uint32(index[h.Link]))
		out = append(out, m.data...)
	}
	return out
}
