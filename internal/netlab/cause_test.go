package netlab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// cause names the ingredient of a network that makes a request hard; of
// several, the most telling one. By it a developer finds the rule that would
// fix a fault.
func (n *Network) cause(q Request) string {
	l := q.Listener
	switch {
	case q.Class == own && n.routerOf(q.Client.Addr) != nil:
		return n.known(n.routerOf(q.Client.Addr))
	case q.Class == own && q.Mark != 0:
		return "table for marks"
	case q.Class == own:
		return own
	case q.Class == banned && n.ruled(q.Client.Addr):
		return "ban by a rule"
	case q.Class == banned:
		return "ban by a route"
	case n.Ingredients["wildcard"] && l.Rung == 0 && l.Place != placeTwoWays:
		return "wildcard"
	case l.Subnet == nil, l.Place == placeTwoWays:
		return places[l.Place]
	case n.Ingredients["bypass rule"] && l.Addr.Is4() &&
		!(q.Class == offLink && n.guided(l)):
		return "bypass rule"
	case q.Class == static && q.Router.Deliberate && l.Router == l.Subnet.Router:
		return n.known(q.Router)
	case l.Router != l.Subnet.Router:
		return "router of a vip, another for " + q.Class
	case q.Way.Link != l.Link && n.Ingredients["reject default"]:
		return "reject default, clients of this host as a router"
	case q.Way.Link != l.Link:
		return "clients of this host as a router"
	case n.guided(l):
		return "router of a vip, taken for that of other addresses"
	case n.routers(l.Subnet) > 1:
		return "two subnets on a link, written by " + string(l.Subnet.Style)
	case q.Class == static && q.Router.Behind.IsValid():
		return n.known(q.Router)
	}
	return fmt.Sprintf("%s, place %s, written by %s", q.Class, l.Place, l.Subnet.Style)
}

// places are the ingredients that have listeners in no subnet.
var places = map[string]string{placeTwoWays: "address of two uplinks",
	placeInside: "listener for containers", placeTunnel: "tunnel"}

// routerOf returns the router that an address is behind.
func (n *Network) routerOf(a netip.Addr) *Router {
	for _, r := range n.Routers {
		if r.Behind.IsValid() && r.Behind.Contains(a) {
			return r
		}
	}
	return nil
}

// known returns how the host knows the network behind a router.
func (n *Network) known(r *Router) string {
	switch {
	case r.Deliberate:
		return "rule by destination"
	case r.Only.Moved:
		return "static next hop in a table"
	}
	return "static next hop"
}

// ruled reports whether a rule bans a client.
func (n *Network) ruled(a netip.Addr) bool {
	return slices.ContainsFunc(slices.Concat(n.Host.Lines, n.Host.Lines6),
		func(s string) bool {
			return strings.HasPrefix(s, fmt.Sprintf("rule add to %s type", a))
		})
}

// guided reports whether the router of a VIP may be mistaken for that of a
// listener next to it.
func (n *Network) guided(l *Listener) bool {
	return slices.ContainsFunc(n.Listeners, func(v *Listener) bool {
		return v.Subnet != nil && v.Link == l.Link && v.Router != v.Subnet.Router &&
			v.Addr.Is4() == l.Addr.Is4() && v.Place != placeTwoWays
	}) && (l.Rung > 3 || l.Rung == 0)
}

// routers returns how many routers serve the subnets of a link, in one family.
func (n *Network) routers(s *Subnet) int {
	m := map[int]bool{}
	for _, o := range n.Segments[s.Segment].Subnets {
		if o.is4() == s.is4() {
			m[o.Router] = true
		}
	}
	return len(m)
}
