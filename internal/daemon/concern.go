package daemon

import (
	"slices"

	"lasthop/routing"
	"lasthop/routing/host"
)

// concern decides which events of the host concern a decision. No look follows
// an event that cannot change the decision.
type concern struct {
	decision routing.Decision
	heeds    *routing.Heeds  // of the decision; nil until an event needs it
	own      map[string]bool // the links that paths are or were on
	moved    bool            // links have gone since the decision
	lastHop  bool            // filters are, or were, part of the decision
}

func concernOf(d routing.Decision, own map[string]bool) concern {
	if own == nil {
		own = map[string]bool{}
	}
	for _, p := range d.Plan.Paths {
		own[p.Link] = true
	}
	filters := len(d.Plan.State.Filters)+len(d.Owned.Filters) > 0
	return concern{decision: d, own: own, lastHop: filters}
}

// note records an event.
func (c *concern) note(e host.Event) {
	c.moved = c.moved || e.Went
}

// heed reports whether an event may change the decision.
func (c *concern) heed(e host.Event) bool {
	if e.Rule != nil || e.Route != nil || e.Filter != nil {
		return true
	}
	if e.Kind == "filter" && !c.lastHop {
		return false
	}
	if c.heeds == nil {
		h := c.decision.Heeds()
		c.heeds = &h
	}
	counts := func(link string) bool { return c.own[link] || c.heeds.Link(link) }
	switch {
	case e.Kind == "address" && e.Prefix.IsValid():
		return c.own[e.Links[0]] || c.heeds.Addr(e.Links[0], e.Prefix)
	case e.Kind == "route" && e.Changed != nil:
		return c.heeds.Route(*e.Changed)
	case e.Kind == "link", e.Kind == "forwarding", e.Kind == "filter":
		return slices.ContainsFunc(e.Links, counts)
	}
	return true
}

// urgent reports whether an event leaves no time to wait: something of lasthop
// was deleted, or may have been; a link comes up that paths are or were on; a
// default route comes, which names a gateway.
func (c *concern) urgent(e host.Event) bool {
	switch {
	case e.Rule != nil, e.Route != nil, e.Filter != nil, e.Kind == "lost":
		return true
	case e.Kind == "link":
		return e.Came && c.own[e.Links[0]]
	}
	return e.Kind == "route" && e.Changed != nil && e.Came && e.Changed.IsDefault() &&
		e.Changed.Table == routing.TableMain
}
