package host

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// errInUse means that a namespace is not fresh, so that nothing may be made in
// it.
var errInUse = errors.New("the network namespace is in use")

// Rebuild makes a host again in this network namespace, which must be a fresh
// one. It makes only what decides where packets go. Its links become veth with
// the same names, each with a peer in the same namespace that gives it carrier.
// It returns what of the host it could not make, a line each. An error means
// that no question can be asked.
func (k *Kernel) Rebuild(h routing.Host) ([]string, error) {
	if err := fresh(&k.conn); err != nil {
		return nil, err
	}
	want, lost := routing.Rebuildable(h)
	b := &rebuilding{conn: &k.conn, want: want, lost: lost, peers: map[string]string{},
		why: map[string]error{}, twins: map[routing.RouteKey]int{}}
	b.even()
	if err := b.links(); err != nil {
		return nil, err
	}
	if err := k.inside(b.sysctls); err != nil {
		return nil, err
	}
	b.change(unix.RTM_NEWADDR, b.want.Addrs)
	b.routes(b.want.Routes)
	b.states()
	if err := b.rules(); err != nil {
		return nil, err
	}
	err := b.settle()
	return b.lost, err
}

// fresh returns an error unless the namespace is new: it has lo and the links
// that tunnel drivers put into every namespace, all of them down.
func fresh(c *conn) error {
	r, err := readRouting(c)
	if err != nil {
		return err
	}
	h := r.host
	up := slices.ContainsFunc(h.Links, func(l routing.Link) bool { return l.Up })
	if up || len(h.Addrs)+len(h.Routes) > 0 {
		return errInUse
	}
	return nil
}

// rebuilding is a host in the making.
type rebuilding struct {
	*conn
	want  routing.Host
	lost  []string
	peers map[string]string        // the other end, by the link's name
	index map[string]int           // by name
	why   map[string]error         // the reason why something could not be made, by its line
	twins map[routing.RouteKey]int // how many IPv6 routes by a gateway have the key
}

// twin reports whether several IPv6 routes by a gateway share the key of this
// one. The kernel does not join those of router advertisements to one multipath
// route (rt6_qualify_for_ecmp).
func (b *rebuilding) twin(r routing.Route) bool { return b.twins[r.RouteKey] > 1 && mayBeTwin(r) }

func mayBeTwin(r routing.Route) bool {
	return r.Family() == routing.IPv6 && r.Table == routing.TableMain && len(r.Hops) == 1 &&
		r.Hops[0].Via.IsValid() && !r.Source().IsValid()
}

// even fits the host to its substitutes: a veth has an MTU of at most 65535
// bytes, and the way to make twins has no word for a protocol.
func (b *rebuilding) even() {
	b.want.Links = slices.Clone(b.want.Links)
	for i := range b.want.Links {
		if l := &b.want.Links[i]; !l.Loopback {
			l.MTU = min(max(l.MTU, 68), 65535)
		}
	}
	for _, r := range b.want.Routes {
		if mayBeTwin(r) {
			b.twins[r.RouteKey]++
		}
	}
	for i, r := range b.want.Routes {
		if b.twin(r) {
			b.want.Routes[i].Protocol = unix.RTPROT_BOOT
		}
	}
}

// links makes all links and sets them up. Links that should be down go down
// later, since routes need a link that is up. Links get no IPv6 address by
// themselves.
func (b *rebuilding) links() error {
	if err := b.reindex(); err != nil {
		return err
	}
	prefix := b.peerPrefix()
	for i, l := range b.want.Links {
		err := b.add(l, fmt.Sprint(prefix, i))
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("make link %s: %w", l.Name, err) // so it is with each
		}
		b.note(linkLine(l), err)
	}
	if err := b.reindex(); err != nil {
		return err
	}
	for _, l := range b.want.Links {
		if peer := b.peers[l.Name]; peer != "" {
			b.note(linkLine(l), b.setFlags(peer, unix.IFF_UP, unix.IFF_UP))
		}
		b.note(linkLine(l), b.enslave(l))
		flags := uint32(unix.IFF_UP)
		if l.PointToPoint {
			flags |= unix.IFF_NOARP
		}
		err := b.setFlags(l.Name, flags, flags)
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("set link %s up: %w", l.Name, err)
		}
		b.note(linkLine(l), err)
	}
	return nil
}

// peerPrefix begins the names of the other ends; no link of the host begins
// with it.
func (b *rebuilding) peerPrefix() string {
	prefix := "lhp"
	for slices.ContainsFunc(b.want.Links,
		func(l routing.Link) bool { return strings.HasPrefix(l.Name, prefix) }) {
		prefix += "p"
	}
	return prefix
}

func (b *rebuilding) add(l routing.Link, peer string) error {
	if b.index[l.Name] != 0 { // lo, or a driver's
		return b.write(unix.RTM_SETLINK, 0, settings(l).data)
	}
	if l.Kind == "vrf" {
		err := b.addLink(l, "")
		if err == nil {
			return nil
		}
		// a veth in its place can still be a route's device
		b.lost = append(b.lost, fmt.Sprintf("VRF %s: %v", l.Name, err))
	}
	b.peers[l.Name] = peer
	err := b.addLink(l, peer)
	if err != nil {
		delete(b.peers, l.Name)
	}
	return err
}

// enslave puts a member of a VRF that could be made into it. Other masters do
// not affect IP.
func (b *rebuilding) enslave(l routing.Link) error {
	i := slices.IndexFunc(b.want.Links, func(m routing.Link) bool {
		return m.Name == l.Master && m.Kind == "vrf"
	})
	if i < 0 || b.peers[l.Master] != "" {
		return nil
	}
	m := linkMessage(l.Name)
	m.putUint32(unix.IFLA_MASTER, uint32(b.index[l.Master]))
	return b.write(unix.RTM_SETLINK, 0, m.data)
}

func (b *rebuilding) reindex() error {
	r := &reading{conn: b.conn}
	err := r.readLinks()
	b.index = r.index
	return err
}

// note keeps the first reason why a line could not be made.
func (b *rebuilding) note(line string, err error) {
	if err != nil && b.why[line] == nil && !errors.Is(err, unix.EEXIST) {
		b.why[line] = err
	}
}

// linkMessage begins a message about a link: struct ifinfomsg and the name.
func linkMessage(name string) message {
	m := newMessage(unix.IfInfomsg{})
	m.putString(unix.IFLA_IFNAME, name)
	return m
}

// settings is a message about a link with the attributes of every link.
func settings(l routing.Link) message {
	m := linkMessage(l.Name)
	m.putUint32(unix.IFLA_MTU, uint32(l.MTU))
	m.putUint32(unix.IFLA_GROUP, uint32(l.Group))
	return m
}

// addLink makes a veth and its peer, or a VRF, and keeps the kernel from giving
// them link-local addresses.
func (b *rebuilding) addLink(l routing.Link, peer string) error {
	m := settings(l)
	var info, data message
	if peer == "" {
		info.putString(unix.IFLA_INFO_KIND, "vrf")
		data.putUint32(unix.IFLA_VRF_TABLE, l.Table)
	} else {
		other := linkMessage(peer)
		other.putUint32(unix.IFLA_MTU, uint32(l.MTU))
		info.putString(unix.IFLA_INFO_KIND, "veth")
		data.put(vethPeer, other.data)
	}
	info.put(unix.IFLA_INFO_DATA, data.data)
	m.put(unix.IFLA_LINKINFO, info.data)
	if err := b.write(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, m.data); err != nil {
		return err
	}
	err := b.noLinkLocal(l.Name)
	if peer != "" {
		err = errors.Join(err, b.noLinkLocal(peer))
	}
	return err
}

const (
	vethPeer = 1 // VETH_INFO_PEER

	addrGenModeNone = 1 // IN6_ADDR_GEN_MODE_NONE
)

func (b *rebuilding) noLinkLocal(link string) error {
	m := linkMessage(link)
	var six, spec message
	six.put(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{addrGenModeNone})
	spec.put(unix.AF_INET6, six.data)
	m.put(unix.IFLA_AF_SPEC, spec.data)
	err := b.write(unix.RTM_SETLINK, 0, m.data)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil // no IPv6
	}
	return err
}

func (b *rebuilding) setFlags(link string, flags, mask uint32) error {
	m := newMessage(unix.IfInfomsg{Flags: flags, Change: mask})
	m.putString(unix.IFLA_IFNAME, link)
	return b.write(unix.RTM_SETLINK, 0, m.data)
}

// sysctls sets those that differ: those of all links before the link's own,
// which follow them.
func (b *rebuilding) sysctls() error {
	made := slices.DeleteFunc(slices.Clone(b.want.Links), func(l routing.Link) bool {
		return b.index[l.Name] == 0
	})
	for _, key := range sysctlKeys(made) {
		want, ok := b.want.Sysctls[key.name]
		path := filepath.Join("/proc/sys/net", key.path)
		data, err := os.ReadFile(path)
		if !ok || err == nil && strings.TrimSpace(string(data)) == want {
			continue
		}
		if err == nil {
			err = os.WriteFile(path, []byte(want), 0)
		}
		if err != nil {
			b.lost = append(b.lost, fmt.Sprintf("sysctl net.%s=%s: %v", key.name, want,
				errors.Unwrap(err)))
		}
	}
	return nil
}

// change adds or deletes addresses.
func (b *rebuilding) change(kind int, addrs []routing.Addr) {
	for _, a := range addrs {
		flags := unix.NLM_F_CREATE | unix.NLM_F_EXCL
		if kind == unix.RTM_DELADDR {
			flags = 0
		}
		b.note(addrLine(a), b.write(kind, flags, encodeAddr(a, b.index[a.Link])))
	}
}

// encodeAddr writes the payload of RTM_NEWADDR and RTM_DELADDR: struct
// ifaddrmsg and attributes.
func encodeAddr(a routing.Addr, index int) []byte {
	addr, other, bits := a.Prefix.Addr(), a.Prefix.Addr(), a.Prefix.Bits()
	if a.Peer.IsValid() {
		other, bits = a.Peer.Addr(), a.Peer.Bits()
	}
	m := newMessage(unix.IfAddrmsg{Family: afOf(routing.FamilyOf(addr)), Prefixlen: uint8(bits),
		Scope: a.Scope, Index: uint32(index)})
	m.putAddr(unix.IFA_LOCAL, addr)
	m.putAddr(unix.IFA_ADDRESS, other)
	var flags uint32
	if addr.Is6() {
		flags |= unix.IFA_F_NODAD
	}
	if a.NoPrefix {
		flags |= unix.IFA_F_NOPREFIXROUTE
	}
	m.putUint32(unix.IFA_FLAGS, flags)
	return m.data
}

// routes adds routes in their order. It repeats this for routes that need other
// routes for their gateway. For the routes that still fail, the gateway was
// on-link when they were made: it makes it on-link for a moment.
func (b *rebuilding) routes(list []routing.Route) {
	list = slices.DeleteFunc(slices.Clone(list), kernelsOwn)
	for before := len(list) + 1; len(list) < before; {
		before = len(list)
		list = slices.DeleteFunc(list, func(r routing.Route) bool {
			return b.route(r) == nil
		})
	}
	for _, r := range list {
		var made []routing.Route
		for _, h := range r.Hops {
			onlink := routing.Route{RouteKey: routing.RouteKey{Table: routing.TableMain,
				Metric: 1}, Type: routing.Unicast, Scope: routing.ScopeLink,
				Hops: []routing.Hop{{Link: h.Link, Weight: 1}}}
			if !h.Via.IsValid() {
				continue
			}
			onlink.Dst = netip.PrefixFrom(h.Via, h.Via.BitLen())
			payload, err := encodeRoute(onlink, b.index)
			if err == nil && b.write(unix.RTM_NEWROUTE,
				unix.NLM_F_CREATE|unix.NLM_F_EXCL, payload) == nil {
				made = append(made, onlink)
			}
		}
		b.note(routeLine(r), b.route(r))
		b.delete(made)
	}
}

// kernelsOwn reports whether only the kernel makes such a route: IPv6 treats
// metric 0 as none, except for addresses.
func kernelsOwn(r routing.Route) bool { return r.Family() == routing.IPv6 && r.Metric == 0 }

// route adds one route behind those of its key.
func (b *rebuilding) route(r routing.Route) error {
	if b.twin(r) {
		return b.inside(func() error { return addAdvertised(r, b.index[r.Hops[0].Link]) })
	}
	payload, err := encodeRoute(r, b.index)
	if err != nil {
		return err
	}
	err = b.write(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, payload)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// delete removes routes that the kernel has made by itself. The message must
// name the link: IPv6 has one route of a key for each link.
func (b *rebuilding) delete(list []routing.Route) {
	for _, r := range list {
		payload, err := encodeRoute(r, b.index)
		if err == nil {
			err = b.write(unix.RTM_DELROUTE, 0, payload)
		}
		b.note(routeLine(r), err)
	}
}

// states takes links down, or removes their carrier.
func (b *rebuilding) states() {
	for _, l := range b.want.Links {
		switch peer := b.peers[l.Name]; {
		case b.index[l.Name] == 0:
		case !l.Up:
			b.note(linkLine(l), b.setFlags(l.Name, 0, unix.IFF_UP))
		case !l.Carrier && peer != "":
			b.note(linkLine(l), b.setFlags(peer, 0, unix.IFF_UP))
		}
	}
}

// rules replaces the rules of a fresh namespace with the host's rules.
func (b *rebuilding) rules() error {
	r := &reading{conn: b.conn}
	if err := r.readRules(); err != nil {
		return err
	}
	got := r.host
	if slices.Equal(got.Rules, b.want.Rules) {
		return nil
	}
	for _, r := range got.Rules {
		if opaqueOf(routing.Op{Rule: &r}) == "" {
			b.note(ruleLine(r), b.write(unix.RTM_DELRULE, 0, encodeRule(r)))
		}
	}
	for _, r := range b.want.Rules {
		if opaqueOf(routing.Op{Rule: &r}) == "" {
			b.note(ruleLine(r),
				b.write(unix.RTM_NEWRULE, unix.NLM_F_CREATE, encodeRule(r)))
		}
	}
	return nil
}
