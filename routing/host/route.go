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

const rtaNextHop = 30 // RTA_NH_ID, which x/sys has no name for

// encapNames are iproute2's words for LWTUNNEL_ENCAP_*.
var encapNames = map[uint32]string{1: "mpls", 2: "ip", 3: "ila", 4: "ip6", 5: "seg6", 6: "bpf",
	7: "seg6local", 8: "rpl", 9: "ioam6", 10: "xfrm"}

// names maps links to names and numbers, and next hops by id to their hops.
type names struct {
	links map[int]string
	index map[string]int
	hops  map[uint32][]routing.Hop
}

// errNewLink means that an object belongs to a link that is not listed. Links
// are read first, so the link is new. The object is left out, as if the host
// had been read a moment earlier; the event of the new link makes the daemon
// read again.
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
	h, list, err := decode[unix.RtMsg](b)
	if err != nil {
		return r, false, fmt.Errorf("decode route: %w", err)
	}
	family, err := familyOf(h.Family)
	if err != nil || h.Flags&unix.RTM_F_CLONED != 0 {
		return r, false, nil
	}
	d := routeDecoder{names: n, family: family, header: h}
	d.route = routing.Route{RouteKey: routing.RouteKey{Table: uint32(h.Table),
		Dst: family.All()},
		Protocol: h.Protocol, Scope: h.Scope, Type: routing.RouteType(h.Type)}
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
	header  unix.RtMsg
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
		r.Dst, err = a.prefix(int(d.header.Dst_len))
	case unix.RTA_SRC:
		d.from, err = a.prefix(int(d.header.Src_len))
	case unix.RTA_OIF:
		d.hasHop = true
		d.hop.Link, err = d.link(a.uint())
	case unix.RTA_GATEWAY, unix.RTA_VIA:
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
	case unix.RTA_PREF:
		r.Pref = map[uint32]int8{3: -1, 1: 1}[a.uint()]
	case rtaNextHop:
		d.nextHop = a.uint()
	default:
		d.more(a)
	}
	return err
}

// more keeps an attribute, of the route or of one of its hops, that is not
// modelled.
func (d *routeDecoder) more(a attr) {
	switch a.kind {
	case unix.RTA_CACHEINFO, unix.RTA_EXPIRES, unix.RTA_PAD, unix.RTA_UID:
		// volatile, or padding
	case unix.RTA_ENCAP:
		d.route.Encap = answerOf(a.value)
	case unix.RTA_ENCAP_TYPE:
		name := encapNames[a.uint()]
		if name == "" {
			name = fmt.Sprint(a.uint())
		}
		d.encap = append(d.encap, "encap "+name)
	case unix.RTA_FLOW:
		d.other = append(d.other, printRealms("realm", a.uint()))
	case unix.RTA_TTL_PROPAGATE:
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

// opaque puts what is not modelled in iproute2's order, the selectors first. It
// puts each once, since all hops of a route may have it.
func (d *routeDecoder) opaque() string {
	var w []string
	if from := d.from.String(); d.from.IsValid() { // a host prefix as `ip` shows it
		w = append(w, "from "+strings.TrimSuffix(from, "/128"))
	}
	if tos := d.header.Tos; tos != 0 {
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

// rejects reports whether routes of the type have no next hop.
func rejects(t routing.RouteType) bool { return t.Rejects() || t == routing.Throw }

// gatewayOf reads RTA_GATEWAY, an address, or RTA_VIA, a family and an address.
func gatewayOf(a attr) (netip.Addr, error) {
	if a.kind == unix.RTA_VIA && len(a.value) > 2 {
		a.value = a.value[2:]
	}
	return a.addr()
}

// multipath reads a sequence of struct rtnexthop with attributes.
func (d *routeDecoder) multipath(b []byte) ([]routing.Hop, error) {
	var hops []routing.Hop
	for len(b) >= unix.SizeofRtNexthop {
		header, _, _ := split[unix.RtNexthop](b)
		size := int(header.Len)
		if size < unix.SizeofRtNexthop || size > len(b) {
			return nil, errShort
		}
		link, err := d.link(uint32(header.Ifindex))
		if err != nil {
			return nil, err
		}
		h := routing.Hop{Link: link, Weight: int(header.Hops) + 1}
		setFlags(&h, uint32(header.Flags))
		list, err := attrs(b[unix.SizeofRtNexthop:size])
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			if a.kind != unix.RTA_GATEWAY && a.kind != unix.RTA_VIA {
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
		setFlags(&d.hop, d.header.Flags)
		r.Hops = []routing.Hop{d.hop}
	}
	if len(r.Hops) == 0 && d.nextHop != 0 {
		// With nexthop_compat_mode=0 the kernel sends only the id of
		// the next hop.
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
	if r.Encap != "" {
		d.encap = nil // known as lasthop's
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
	header, list, err := decode[unix.Nhmsg](b)
	if err != nil {
		return h, fmt.Errorf("decode next hop: %w", err)
	}
	h.id = find(list, unix.NHA_ID).uint()
	h.hop.Weight = 1
	setFlags(&h.hop, header.Flags)
	// a next hop without a link resolves nothing
	h.hop.Link, _ = n.link(find(list, unix.NHA_OIF).uint())
	if via := find(list, unix.NHA_GATEWAY); via.value != nil {
		if h.hop.Via, err = via.addr(); err != nil {
			return h, fmt.Errorf("decode next hop: %w", err)
		}
	}
	group := find(list, unix.NHA_GROUP).value // a sequence of struct nexthop_grp
	for len(group) >= unix.SizeofNexthopGrp {
		var g unix.NexthopGrp
		g, group, _ = split[unix.NexthopGrp](group)
		h.members = append(h.members, member{g.Id, int(g.Weight) + 1})
	}
	return h, nil
}

// encodeRoute writes the payload of RTM_NEWROUTE, without the program of Encap.
// index gives links their numbers.
func encodeRoute(r routing.Route, index map[string]int) ([]byte, error) {
	r.Encap = ""
	return encodeAnswering(r, index, 0)
}

// encodeAnswering is encodeRoute, with the file descriptor of Encap's program.
func encodeAnswering(r routing.Route, index map[string]int, answer int) ([]byte, error) {
	for _, h := range r.Hops {
		if index[h.Link] == 0 {
			return nil, fmt.Errorf("find link %s: %w", h.Link, unix.ENODEV)
		}
	}
	var flags uint32
	if len(r.Hops) == 1 && r.Hops[0].OnLink {
		flags = unix.RTNH_F_ONLINK
	}
	m := routeMessage(r, r.Scope, flags)
	m.putAddr(unix.RTA_PREFSRC, r.Src)
	metrics, err := encodeMetrics(r)
	if err != nil {
		return nil, err
	}
	if metrics.data != nil {
		m.put(unix.RTA_METRICS, metrics.data)
	}
	if r.Pref != 0 {
		// ICMPV6_ROUTER_PREF_*: 1 high, 3 low
		m.put(unix.RTA_PREF, []byte{uint8(r.Pref) & 3})
	}
	switch len(r.Hops) {
	case 0:
	case 1:
		m.putGateway(r.Family(), r.Hops[0].Via)
		m.putUint32(unix.RTA_OIF, uint32(index[r.Hops[0].Link]))
		m.putAnswer(r.Encap, answer)
	default:
		m.put(unix.RTA_MULTIPATH, encodeHops(r, index, answer))
	}
	return m.data, nil
}

// routeMessage writes what identifies a route.
func routeMessage(r routing.Route, scope uint8, flags uint32) message {
	h := unix.RtMsg{Family: afOf(r.Family()), Dst_len: uint8(r.Dst.Bits()),
		Protocol: r.Protocol,
		Scope:    scope, Type: uint8(r.Type), Flags: flags}
	if r.Table < 256 {
		h.Table = uint8(r.Table)
	}
	from := r.Source()
	if from.IsValid() {
		h.Src_len = uint8(from.Bits())
	}
	m := newMessage(h)
	m.putUint32(unix.RTA_TABLE, r.Table)
	m.putAddr(unix.RTA_SRC, from.Addr())
	if r.Dst.Bits() > 0 {
		m.putAddr(unix.RTA_DST, r.Dst.Addr())
	}
	m.putNumber(unix.RTA_PRIORITY, r.Metric)
	return m
}

// encodeRouteKey writes the payload of RTM_DELROUTE: key, type and protocol, no
// next hops, any scope. So the kernel deletes only a route of that key that is
// lasthop's.
func encodeRouteKey(r routing.Route) []byte {
	return routeMessage(r, unix.RT_SCOPE_NOWHERE, 0).data
}

func (m *message) putGateway(f routing.Family, via netip.Addr) {
	switch {
	case !via.IsValid():
	case routing.FamilyOf(via) == f:
		m.putAddr(unix.RTA_GATEWAY, via)
	default: // an IPv4 route by an IPv6 router (RFC 5549)
		m.put(unix.RTA_VIA,
			append(native.AppendUint16(nil, uint16(afOf(routing.FamilyOf(via)))),
				via.AsSlice()...))
	}
}

func encodeHops(r routing.Route, index map[string]int, answer int) []byte {
	var out []byte
	for _, h := range r.Hops {
		var m message
		m.putGateway(r.Family(), h.Via)
		m.putAnswer(r.Encap, answer)
		header := unix.RtNexthop{Len: uint16(unix.SizeofRtNexthop + len(m.data)),
			Hops: uint8(max(h.Weight, 1) - 1), Ifindex: int32(index[h.Link])}
		if h.OnLink {
			header.Flags = unix.RTNH_F_ONLINK
		}
		out = append(append(out, bytesOf(&header)...), m.data...)
	}
	return out
}
