package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"lasthop/routing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Do makes one write; it is meant for routing.Execute. What is there already
// when it is added, and what is gone already when it is deleted, is success.
// Errors wrap the kernel's errno and carry its own words.
func (k *Kernel) Do(op routing.Op) error {
	if opaque := opaqueOf(op); opaque != "" {
		return fmt.Errorf("write %q: %w", opaque, errors.ErrUnsupported)
	}
	switch {
	case op.Route != nil && op.Delete:
		return k.delRoute(*op.Route)
	case op.Route != nil:
		return k.setRoute(*op.Route)
	case op.Rule != nil && op.Delete:
		return gone(k.write(unix.RTM_DELRULE, 0, encodeRule(*op.Rule)), unix.ENOENT)
	case op.Rule != nil:
		err := k.write(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
			encodeRule(*op.Rule))
		if errors.Is(err, unix.EEXIST) {
			return nil
		}
		return err
	case op.Group != nil && op.Delete:
		return gone(k.setGroup(op.Group.Link, 0), unix.ENODEV)
	case op.Group != nil:
		return k.setGroup(op.Group.Link, op.Group.Group)
	}
	return errors.New("empty operation")
}

// opaqueOf returns what a message could not say. Without it a rule would match
// more, and a delete would hit a stranger's.
func opaqueOf(op routing.Op) string {
	switch {
	case op.Rule != nil:
		return op.Rule.Opaque
	case op.Route != nil:
		return op.Route.Opaque
	}
	return ""
}

// gone takes the kernel's word that what is to be deleted is not there: ENOENT
// of a rule, ESRCH of a route, ENODEV of a link. Any other error is one: a rule
// that is taken to be gone, and is not, would lose its table next.
func gone(err, word error) error {
	if errors.Is(err, word) {
		return nil
	}
	return err
}

func (k *Kernel) write(kind, flags int, payload []byte) error {
	k.writes++
	_, err := k.request(kind, flags|unix.NLM_F_ACK, 0, payload)
	return err
}

func (k *Kernel) setRoute(r routing.Route) error {
	index, err := k.indexes(r.Hops)
	if err != nil {
		return err
	}
	payload, err := encodeRoute(r, index)
	if err != nil {
		return err
	}
	k.tables[r.Table] = true
	return k.write(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, payload)
}

// delRoute deletes a route that is there. It looks first, since the message
// says less than a route is: IPv4 takes metric 0 for any metric and IPv6 any
// type for the one that is asked for, so that another route would go in place
// of one that has gone.
func (k *Kernel) delRoute(r routing.Route) error {
	n, err := k.readLinks(&routing.Host{})
	if err != nil {
		return err
	}
	var h routing.Host
	if err := k.dumpRoutes(&h, n, r.Family(), r.Table); err != nil {
		return fmt.Errorf("look for the route: %w", err)
	}
	same := func(x routing.Route) bool {
		return x.RouteKey == r.RouteKey && x.Type == r.Type && x.Protocol == r.Protocol
	}
	if !slices.ContainsFunc(h.Routes, same) {
		return nil
	}
	return gone(k.write(unix.RTM_DELROUTE, 0, encodeRouteKey(r)), unix.ESRCH)
}

// indexes looks the links up at the moment of writing: a link that was
// recreated has another number.
func (k *Kernel) indexes(hops []routing.Hop) (map[string]int, error) {
	index := map[string]int{}
	for _, h := range hops {
		l, err := k.findLink(func() (netlink.Link, error) {
			return k.handle.LinkByName(h.Link)
		})
		if err != nil {
			return nil, fmt.Errorf("find link %s: %w", h.Link, err)
		}
		index[h.Link] = l.Attrs().Index
	}
	return index, nil
}

func (k *Kernel) findLink(find func() (netlink.Link, error)) (netlink.Link, error) {
	if err := k.fault(unix.RTM_GETLINK); err != nil {
		return nil, err
	}
	l, err := find()
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, unix.ENODEV
	}
	return l, err
}

// setGroup names the link and gives no index. RTM_SETLINK, since RTM_NEWLINK
// with a group and an unknown name would change every link of that group
// (rtnl_group_changelink).
func (k *Kernel) setGroup(link string, group int) error {
	m := message{make([]byte, unix.SizeofIfInfomsg)}
	m.putString(unix.IFLA_IFNAME, link)
	m.putUint32(unix.IFLA_GROUP, uint32(group))
	k.echoes.expectGroup(link, group)
	err := k.write(unix.RTM_SETLINK, 0, m.data)
	if err != nil {
		k.echoes.cameGroup(link, group)
	}
	return err
}

// RouteGet asks the kernel which way a packet of its own takes. A reject route
// is a Way with its type where the kernel tells it: for IPv4 it tells
// EHOSTUNREACH (unreachable), EACCES (prohibit) and EINVAL (blackhole, or a
// source that cannot be); ENETUNREACH is the zero Way, for no route, an
// `unreachable` rule, and an IPv4 source that is not assigned here alike.
func (k *Kernel) RouteGet(q routing.Query) (routing.Way, error) { return k.routeGet(q, k.linkName) }

// routeGet is RouteGet for those who know the links' names already.
func (k *Kernel) routeGet(q routing.Query,
	name func(index uint32) (string, error)) (routing.Way, error) {
	family := routing.FamilyOf(q.Dst)
	m := message{make([]byte, routeHeader)}
	m.data[0], m.data[1] = afOf(family), byte(family.Bits())
	// IPv6 always tells the table, and refuses the flag when it checks
	// strictly
	if family == routing.IPv4 {
		native.PutUint32(m.data[8:], lookupTable)
	}
	m.putAddr(unix.RTA_DST, q.Dst)
	if q.Src.IsValid() {
		m.data[2] = byte(family.Bits())
		m.putAddr(unix.RTA_SRC, q.Src)
	}
	if q.OIF != "" {
		index, err := k.indexes([]routing.Hop{{Link: q.OIF}})
		if err != nil {
			return routing.Way{}, err
		}
		m.putUint32(unix.RTA_OIF, uint32(index[q.OIF]))
	}
	if q.Mark != 0 {
		m.putUint32(unix.RTA_MARK, q.Mark)
	}
	msgs, err := k.request(unix.RTM_GETROUTE, 0, unix.RTM_NEWROUTE, m.data)
	if err != nil {
		return refused(err)
	}
	if len(msgs) == 0 {
		return routing.Way{}, errors.New("ask for a route: no answer")
	}
	return answer(msgs[0], name)
}

func refused(err error) (routing.Way, error) {
	for errno, t := range map[error]routing.RouteType{unix.EHOSTUNREACH: routing.Unreachable,
		unix.EACCES: routing.Prohibit, unix.EINVAL: routing.Blackhole,
		unix.ENETUNREACH: 0} {
		if errors.Is(err, errno) {
			return routing.Way{Type: t}, nil
		}
	}
	return routing.Way{}, fmt.Errorf("ask for a route: %w", err)
}

// answer reads the reply to RTM_GETROUTE: a route with one next hop, flagged as
// cloned.
func answer(b []byte, name func(index uint32) (string, error)) (routing.Way, error) {
	if len(b) < routeHeader {
		return routing.Way{}, fmt.Errorf("ask for a route: %w", errShort)
	}
	list, err := attrs(b[routeHeader:])
	if err != nil {
		return routing.Way{}, fmt.Errorf("ask for a route: %w", err)
	}
	w := routing.Way{Type: routing.RouteType(b[7]), Table: uint32(b[4])}
	for _, a := range list {
		switch a.kind {
		case unix.RTA_TABLE:
			w.Table = a.uint()
		case unix.RTA_OIF:
			if w.Link, err = name(a.uint()); err != nil {
				return w, err
			}
		case unix.RTA_GATEWAY, rtaVia:
			if w.Via, err = gatewayOf(a); err != nil {
				return w, err
			}
		}
	}
	switch {
	case w.Type == routing.Local:
		w.Link, w.Via = "lo", netip.Addr{}
	case w.Type.Rejects():
		w.Link, w.Via = "", netip.Addr{}
	}
	return w, nil
}

func (k *Kernel) linkName(index uint32) (string, error) {
	l, err := k.findLink(func() (netlink.Link, error) {
		return k.handle.LinkByIndex(int(index))
	})
	if err != nil {
		return "", fmt.Errorf("find link %d: %w", index, err)
	}
	return l.Attrs().Name, nil
}
