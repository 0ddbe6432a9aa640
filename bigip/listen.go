package bigip

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"
)

// The ways in which a listener of NGINX stands for a virtual server.
const (
	matchExact     = "exact"
	matchWildcard  = "wildcard"
	matchPort      = "other-port"
	matchTransport = "other-transport"
	matchNone      = "none"
)

// listener finds NGINX's listener for a row, or says why there can be none. It
// sets l.addr if the destination is one address.
func (j *joiner) listener(l *line, port *routing.PortRange) {
	addr, host := l.d.Host()
	f := routing.Finding{Subject: l.v.Name, Origin: l.d.Origin}
	switch {
	case !l.d.Addrs.IsValid():
		l.problem(routing.Finding{Code: "destination-unknown", Severity: routing.Warning,
			Subject: f.Subject, Origin: f.Origin,
			Message: "the files do not say where its clients connect to",
			Hint: "give the file that has it: the " +
				"partition's bigip.conf, or the UCS"})
		return
	case !host || addr.IsUnspecified():
		l.problem(routing.Finding{Code: "network", Severity: routing.Error,
			Subject: f.Subject, Origin: f.Origin,
			Message: "it serves " + l.Address + ", not one address; " +
				"NGINX listens on addresses",
			Hint: "name the addresses in use, or hand the network to the host (a " +
				"local route, tproxy) by hand"})
		return
	}
	l.addr, l.Match = addr, matchNone
	l.Present = j.present[addr]
	transports := map[string][]routing.Transport{"tcp": {routing.TCP}, "udp": {routing.UDP},
		"any": {routing.TCP, routing.UDP}}[l.Protocol]
	switch {
	case transports == nil:
		l.problem(routing.Finding{Code: "protocol", Severity: routing.Error,
			Subject: f.Subject, Origin: f.Origin,
			Message: "it serves " + l.Protocol + "; NGINX serves tcp and udp",
			Hint:    "leave it where it is, or route it to another host"})
	case l.d.AnyPort():
		l.problem(routing.Finding{Code: "any-port", Severity: routing.Error,
			Subject: f.Subject, Origin: f.Origin,
			Message: "it serves every port; NGINX listens on ports that are named",
			Hint:    "find out which ports its clients use, and listen on these"})
	case port == nil:
		l.problem(routing.Finding{Code: "port-unknown", Severity: routing.Warning,
			Subject: f.Subject, Origin: f.Origin,
			Message: "its port is the name of a service or list that is not known: " +
				l.d.Service,
			Hint: "look it up on the BIG-IP; services are in /etc/services there"})
	default:
		j.match(l, *port, transports)
	}
}

// match looks for listeners that take all ports, by each of the transports: a
// virtual server for both of them loses clients by one.
func (j *joiner) match(l *line, ports routing.PortRange, transports []routing.Transport) {
	any := routing.FamilyOf(l.addr).All().Addr()
	addrs := []netip.Addr{l.addr, any}
	for n, kind := range []string{matchExact, matchWildcard} {
		found, missing := j.byEach(ports, addrs[:n+1], transports)
		for _, i := range found {
			j.used[i] = true
		}
		if len(missing) == 0 {
			l.Match = kind
			l.setListener(j.here.Listeners[found[0]])
			return
		}
	}
	found, missing := j.byEach(ports, addrs, transports)
	if len(found) == 0 {
		found, _ = j.byEach(ports, addrs, []routing.Transport{routing.TCP, routing.UDP})
	}
	if len(found) > 0 {
		x := j.here.Listeners[found[0]]
		l.Match = matchTransport
		l.setListener(x)
		j.missing(l, ports, missing, "NGINX listens where the virtual server did by "+
			string(x.Transport)+" only")
		return
	}
	message := "NGINX does not listen where the virtual server did"
	for _, i := range j.listeners[l.addr] {
		if x := j.here.Listeners[i]; slices.Contains(transports, x.Transport) {
			l.Match, message = matchPort, "NGINX listens on the address of the "+
				"virtual server on other ports only"
			l.setListener(x)
			break
		}
	}
	j.missing(l, ports, transports, message)
}

// byEach returns the indexes of listeners that take all ports, and the
// transports by which there are none.
func (j *joiner) byEach(ports routing.PortRange, addrs []netip.Addr,
	transports []routing.Transport) (found []int, missing []routing.Transport) {
	for _, transport := range transports {
		list := j.covering(ports, addrs, transport)
		if list == nil {
			missing = append(missing, transport)
		}
		found = append(found, list...)
	}
	return found, missing
}

// covering returns the indexes of listeners that together take all ports; nil
// if they do not.
func (j *joiner) covering(ports routing.PortRange, addrs []netip.Addr,
	transport routing.Transport) []int {
	var candidates, found []int
	for _, addr := range addrs {
		candidates = append(candidates, j.listeners[addr]...)
	}
	for next := int(ports.First); next <= int(ports.Last); {
		i := slices.IndexFunc(candidates, func(i int) bool {
			x := j.here.Listeners[i]
			return x.Transport == transport && int(x.Ports.First) <= next &&
				next <= int(x.Ports.Last)
		})
		if i < 0 {
			return nil
		}
		found = append(found, candidates[i])
		next = int(j.here.Listeners[candidates[i]].Ports.Last) + 1
	}
	return found
}

func (r *Row) setListener(x routing.Listener) {
	r.Listen = x.Listen
	if len(x.Origins) > 0 {
		r.ListenOrigin = x.Origins[0]
	}
}

// missing says which listen directives are missing.
func (j *joiner) missing(l *line, ports routing.PortRange, transports []routing.Transport,
	message string) {
	var lines []string
	for _, transport := range transports {
		listen := "listen " + endpoint(l.addr, ports)
		if transport == routing.UDP {
			listen += " udp"
		}
		lines = append(lines, listen+";")
		j.need.listens = appendNew(j.need.listens, listen+";")
	}
	l.problems = append(l.problems, problem{routing.Finding{Code: "no-listener",
		Severity: routing.Warning, Subject: "nginx.conf", Origin: l.d.Origin,
		Message: message, Hint: "the steps hold the lines for nginx.conf"},
		strings.Join(lines, " ")})
}

// endpoint writes address and ports as NGINX does.
func endpoint(addr netip.Addr, ports routing.PortRange) string {
	host := addr.String()
	if addr.Is6() {
		host = "[" + host + "]"
	}
	if ports.First == ports.Last {
		return fmt.Sprintf("%s:%d", host, ports.First)
	}
	return fmt.Sprintf("%s:%d-%d", host, ports.First, ports.Last)
}

func appendNew[T comparable](list []T, x T) []T {
	if slices.Contains(list, x) {
		return list
	}
	return append(list, x)
}
