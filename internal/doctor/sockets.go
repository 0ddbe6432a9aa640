package doctor

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"lasthop/internal/procfs"
	"lasthop/internal/sockets"
	"lasthop/internal/survey"
	"lasthop/nginxconf"
	"lasthop/routing"
	"lasthop/routing/host"
)

// This file compares what NGINX should listen on with the open sockets and
// their owners.

// openSockets are those that wait for clients, by transport and port.
type openSockets map[openPort][]host.Socket

type openPort struct {
	transport string
	port      uint16
}

// sockets compares the open sockets with what NGINX runs with.
func (d *doctor) sockets(l Loaded) error {
	list, err := d.Kernel.Sockets()
	if err != nil {
		return err
	}
	open := openSockets{}
	for _, s := range list {
		key := openPort{string(s.Transport), s.Local.Port()}
		open[key] = append(open[key], s)
	}
	for _, c := range l.Serving {
		for _, x := range c.Listens {
			d.closed(x, open.lacks(x))
		}
	}
	for _, c := range l.Pending {
		for _, x := range c.Listens {
			d.awaited[x.Origin] = d.awaited[x.Origin] || len(open.lacks(x)) > 0
		}
	}
	claimed := open.of(d.survey.NGINX.Configs)
	if len(l.Pending)+len(l.Losing) == 0 {
		d.unexplained(list, maps.Clone(claimed), l.Masters)
	}
	d.strangers(claimed, l.Masters)
	return nil
}

// unexplained names the sockets on which NGINX waits for clients and that no
// listen of its configuration explains: a module that is not known opened them.
func (d *doctor) unexplained(list []host.Socket, claimed map[uint32]nginxconf.Listen,
	masters []nginxconf.Master) {
	waits := map[uint32]host.Socket{}
	for _, s := range list {
		if _, ok := claimed[s.Inode]; !ok && !s.Local.Addr().IsLoopback() &&
			!d.named(s) {
			waits[s.Inode] = s
		}
	}
	pids := running(masters, d.survey.NGINX.Configs...)
	_ = sockets.Holders("", pids, func(inode uint32, pid int) { // strangers reports an error
		s, ok := waits[inode]
		if !ok {
			return
		}
		delete(waits, inode)
		d.find(routing.Warning.Finding("socket-unexplained", s.Local.String(), "NGINX "+
			"(process %d) listens on %s %s, which no listen of its configuration "+
			"names: plan and apply do nothing for its replies", pid,
			s.Transport, s.Local).
			Advise("name it: %s", routing.Flag("listen", flagFor(s))))
	})
}

// flagFor is the value of --listen for a socket.
func flagFor(s host.Socket) string {
	if s.Transport == routing.UDP {
		return listenText(s) + "/udp"
	}
	return listenText(s)
}

// named reports whether the user has named the listener of a socket.
func (d *doctor) named(s host.Socket) bool {
	return slices.ContainsFunc(d.survey.Inputs.Listeners, func(l routing.Listener) bool {
		return l.Addr == s.Local.Addr() && l.Transport == s.Transport &&
			l.Ports.First <= s.Local.Port() && s.Local.Port() <= l.Ports.Last
	})
}

// closed reports that a listen lacks sockets.
func (d *doctor) closed(l nginxconf.Listen, ports []string) {
	if len(ports) == 0 {
		return
	}
	d.find(routing.Error.Finding("listen-not-open", l.Text, "NGINX runs with this listen, "+
		"but has no socket open for %s %s port %s: the kernel refuses requests",
		l.Transport, l.Addr, routing.Some(ports, 3)).
		Advise(survey.Reload + " (a reload that fails changes nothing); if " +
			"the socket stays closed, look into NGINX's error log and for the " +
			"program that has the port (ss -lnptu) before you restart " +
			"NGINX").At(l.Origin))
}

// lacks returns the ports of a listen that no socket is open for.
func (o openSockets) lacks(l nginxconf.Listen) (ports []string) {
	for port := int(l.First); port <= int(l.Last); port++ {
		if len(o.at(l, uint16(port))) == 0 {
			ports = append(ports, strconv.Itoa(port))
		}
	}
	return ports
}

// at returns the sockets that requests to a port of a listener come to: those
// of exactly its address, else those of a wildcard. If NGINX listens on a
// wildcard it opens no other socket for the port.
func (o openSockets) at(l nginxconf.Listen, port uint16) []host.Socket {
	var exact, wild []host.Socket
	for _, s := range o[openPort{l.Transport, port}] {
		switch at := s.Local.Addr(); {
		case at == l.Addr:
			exact = append(exact, s)
		case at.IsUnspecified() && (at.Is4() == l.Addr.Is4() || at.Is6() && !s.IPv6Only):
			wild = append(wild, s)
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return wild
}

// claiming returns the sockets that may get requests to a port of a listener:
// those at its address, and for a wildcard all of the port if none is at the
// wildcard itself. NGINX could not open its own next to them. If it could (UDP,
// with SO_REUSEADDR on both) the foreign sockets are for their own addresses:
// resolvers listen on 127.0.0.53 and on bridges next to a DNS server.
func (o openSockets) claiming(l nginxconf.Listen, port uint16) []host.Socket {
	all := o[openPort{l.Transport, port}]
	here := func(s host.Socket) bool { return s.Local.Addr() == l.Addr }
	if !l.Addr.IsUnspecified() || slices.ContainsFunc(all, here) {
		return o.at(l, port)
	}
	var out []host.Socket
	for _, s := range all {
		switch at := s.Local.Addr(); {
		case at.Is4() == l.Addr.Is4(), at.Is4() && !l.IPv6Only,
			at.Is6() && at.IsUnspecified() && !s.IPv6Only:
			out = append(out, s)
		}
	}
	return out
}

// of returns the sockets that may get requests to any of the
// configured listeners, by inode.
func (o openSockets) of(configs []survey.Config) map[uint32]nginxconf.Listen {
	out := map[uint32]nginxconf.Listen{}
	for _, c := range configs {
		for _, l := range c.Listens {
			for port := int(l.First); port <= int(l.Last); port++ {
				for _, s := range o.claiming(l, uint16(port)) {
					out[s.Inode] = l
				}
			}
		}
	}
	return out
}

// strangers finds sockets of other programs that get requests to listeners of
// NGINX. The masters have most sockets, so it searches the many processes of a
// host only for the remaining ones.
func (d *doctor) strangers(waits map[uint32]nginxconf.Listen, masters []nginxconf.Master) {
	var pids []int
	for _, m := range masters {
		pids = append(pids, m.PID)
	}
	if err := sockets.Holders("", pids,
		func(inode uint32, _ int) { delete(waits, inode) }); err != nil {
		d.cannotSee("which processes have the sockets", err)
		return
	}
	if len(waits) == 0 {
		return
	}
	pids, _ = procfs.Dir("").Processes()
	err := sockets.Holders("", pids, func(inode uint32, pid int) {
		if l, ok := waits[inode]; ok {
			delete(waits, inode)
			d.stranger(l, pid)
		}
	})
	if len(waits) > 0 && err == nil {
		err = errors.New("lasthop cannot see their processes")
	}
	if len(waits) > 0 {
		d.cannotSee("which processes have some of the sockets", err)
	}
}

// stranger explains what it means that another process has a socket that a
// listener of NGINX needs.
func (d *doctor) stranger(l nginxconf.Listen, pid int) {
	var proc procfs.Dir
	name, _ := proc.Comm(pid)
	title, _ := proc.Cmdline(pid)
	f := routing.Error.Finding("port-taken", l.Text, "%s (process %d) listens on %s %s, "+
		"where NGINX should listen: it gets all requests, or some", name, pid,
		l.Transport, l.Addr).Advise("let one of the two programs listen elsewhere")
	if name == "docker-proxy" {
		f = routing.Error.Finding("docker-proxy", l.Text, "Docker publishes a "+
			"container's port on %s %s (docker-proxy, process %d), where NGINX "+
			"should listen: requests go to the container", l.Transport, l.Addr, pid).
			Advise("publish the port on another address or port: docker run -p " +
				"127.0.0.1:PORT:PORT")
	}
	// another NGINX of root's; the title of a user's process proves nothing
	if owner, err := proc.Owner(pid); err != nil || owner != 0 ||
		!strings.HasPrefix(title, "nginx: ") {
		d.find(f.At(l.Origin))
	}
}
