package host

import (
	"errors"
	"fmt"
	"slices"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// Write makes the writes of a diff, in the order and with the care of
// routing.Execute. It is success if an object to add is there already, or an
// object to delete is gone already. Errors wrap the kernel's errno and its
// error text.
func (k *Kernel) Write(d routing.Diff) (done []routing.Op, err error) {
	return routing.Execute(d, k.writing().do)
}

// writing is one call of Write. It reads the links once, and once each table
// that it deletes from. The next call sees what other programs change
// meanwhile.
type writing struct {
	reading
	lastHop LastHop
	tables  map[uint32]bool // those of the Kernel
	there   map[table]map[identity]int
}

// table is what one dump of routes returns.
type table struct {
	family routing.Family
	number uint32
}

// identity is the part of a route that a request to delete it contains.
type identity struct {
	routing.RouteKey
	kind     routing.RouteType
	protocol uint8
}

func identityOf(r routing.Route) identity { return identity{r.RouteKey, r.Type, r.Protocol} }

func (k *Kernel) writing() *writing {
	return &writing{reading{conn: &k.conn}, k.LastHop, k.tables,
		map[table]map[identity]int{}}
}

// do makes one write.
func (w *writing) do(op routing.Op) error {
	if opaque := opaqueOf(op); opaque != "" {
		return fmt.Errorf("write %q: %w", opaque, errors.ErrUnsupported)
	}
	switch {
	case op.Route != nil && op.Delete:
		return w.delRoute(*op.Route)
	case op.Route != nil && op.Append:
		flags := unix.NLM_F_CREATE | unix.NLM_F_APPEND
		return gone(w.setRoute(*op.Route, flags), unix.EEXIST)
	case op.Route != nil:
		return w.setRoute(*op.Route, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	case op.Rule != nil && op.Delete:
		return gone(w.write(unix.RTM_DELRULE, 0, encodeRule(*op.Rule)), unix.ENOENT)
	case op.Rule != nil:
		return w.addRule(*op.Rule)
	case op.Group != nil && op.Delete:
		return gone(w.setGroup(op.Group.Link, 0), unix.ENODEV)
	case op.Group != nil:
		return w.setGroup(op.Group.Link, op.Group.Group)
	case op.Filter != nil && op.Delete:
		return w.delFilter(*op.Filter)
	case op.Filter != nil:
		return w.setFilter(*op.Filter)
	case op.Wanted != nil && w.lastHop != nil:
		return w.lastHop.SetWanted(*op.Wanted, op.Delete)
	case op.Wanted != nil:
		return errNoLastHop
	}
	return errors.New("empty operation")
}

// opaqueOf returns what a message cannot express. Without it a rule would match
// more, and a delete would hit another program's object.
func opaqueOf(op routing.Op) string {
	switch {
	case op.Rule != nil:
		_, rest := op.Rule.Selectors()
		return rest
	case op.Route != nil:
		_, rest := routing.SplitMetrics(op.Route.Opaque)
		return rest
	}
	return ""
}

// gone treats these errors as success: EEXIST for an object to add; ENOENT (a
// rule), ESRCH (a route) or ENODEV (a link) for an object to delete. Any other
// error stays an error: a rule that is wrongly treated as gone would lose its
// table next.
func gone(err, word error) error {
	if errors.Is(err, word) {
		return nil
	}
	return err
}

// addRule adds a rule unless it is there. NLM_F_EXCL alone is not enough: the
// kernel reports EEXIST also for a rule with a source or a destination which
// the new one does not have (rule_exists in net/core/fib_rules.c).
func (w *writing) addRule(r routing.Rule) error {
	err := w.write(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, encodeRule(r))
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	now := reading{conn: w.conn}
	if err := now.readRules(); err != nil || slices.Contains(now.host.Rules, r) {
		return err
	}
	return w.write(unix.RTM_NEWRULE, unix.NLM_F_CREATE, encodeRule(r))
}

func (w *writing) setRoute(r routing.Route, flags int) error {
	if len(r.Hops) > 0 {
		if err := w.needLinks(); err != nil {
			return err
		}
	}
	var answer int
	if r.Encap != "" {
		var err error
		if answer, err = w.program(r.Encap, LastHop.Answer); err != nil {
			return err
		}
	}
	payload, err := encodeAnswering(r, w.index, answer)
	if err != nil {
		return err
	}
	w.tables[r.Table] = true
	return w.write(unix.RTM_NEWROUTE, flags, payload)
}

// delRoute deletes a route that is there. It looks first, since the message is
// less precise than a route: IPv4 treats metric 0 as any metric, and IPv6
// ignores the type. Without the look another route would go in place of one
// that is already gone.
func (w *writing) delRoute(r routing.Route) error {
	if err := w.needLinks(); err != nil {
		return err
	}
	there, err := w.look(table{r.Family(), r.Table})
	if err != nil {
		return fmt.Errorf("look for the route: %w", err)
	}
	if there[identityOf(r)] == 0 {
		return nil
	}
	payload := encodeRouteKey(r)
	if there[identityOf(r)] > 1 { // the key alone would take the first of them
		r.Scope = unix.RT_SCOPE_NOWHERE
		if payload, err = encodeRoute(r, w.index); err != nil {
			return err
		}
	}
	if err := gone(w.write(unix.RTM_DELROUTE, 0, payload), unix.ESRCH); err != nil {
		return err
	}
	there[identityOf(r)]--
	return nil
}

// look counts the routes of a table.
func (w *writing) look(t table) (map[identity]int, error) {
	if there := w.there[t]; there != nil {
		return there, nil
	}
	w.host.Routes = nil
	if err := w.dumpRoutes(t.family, t.number); err != nil {
		return nil, err
	}
	there := map[identity]int{}
	for _, r := range w.host.Routes {
		there[identityOf(r)]++
	}
	w.there[t] = there
	return there, nil
}

// setGroup names the link and sends no index. It uses RTM_SETLINK, since
// RTM_NEWLINK with a group and an unknown name would change every link of that
// group (rtnl_group_changelink).
func (w *writing) setGroup(link string, group int) error {
	m := linkMessage(link)
	m.putUint32(unix.IFLA_GROUP, uint32(group))
	w.echoes.expectGroup(link, group)
	err := w.write(unix.RTM_SETLINK, 0, m.data)
	if err != nil {
		w.echoes.cameGroup(link, group)
	}
	return err
}
