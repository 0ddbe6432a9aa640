package daemon

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"lasthop/internal/journal"
	"lasthop/internal/sockets"
	"lasthop/internal/writer"
	"lasthop/nginxconf"
	"lasthop/routing"
	"lasthop/routing/host"
	"lasthop/watcher"
)

// The daemon keeps what NGINX serves. The files on disk may differ from those
// that a master has read, so the daemon compares its belief about them with the
// master's sockets: at each load, before it removes a listener's way, and with
// each audit. While it is not sure what is loaded, it adds what has a socket
// and removes nothing.

// belief is what the daemon believes of an instance's masters, and how sure
// that is.
type belief struct {
	by      int                       // the master that has loaded last
	of      map[int]*nginxconf.Config // what each master has loaded, if known
	doubt   string                    // why it is not sure what has loaded; "" if it is
	settled bool                      // it was sure once since the daemon started
	first   watcher.Process           // of its workers
	// how the sockets differ from all that is known of files that were read
	// and are old enough, at the last load and at the one before. A
	// difference that was there before is no reason for doubt: a module
	// that is not known opens sockets of its own
	differs, differed []string
}

// loads records that a master may have loaded its configuration. It may be
// called twice for one load.
func (b *belief) loads(master int, workers []watcher.Process) {
	var first watcher.Process
	for _, w := range workers {
		if first.PID == 0 || w.Started < first.Started {
			first = w
		}
	}
	if b.by != master || b.first != first {
		b.differed = b.differs
	}
	b.by, b.first = master, first
}

// evidence is one look at the sockets; without a Look, the look failed.
type evidence struct {
	*sockets.Look
	named   map[sockets.Key]bool // by the settings
	indexes map[*nginxconf.Config]listensAt
}

// listensAt are the listens of a configuration by where they listen.
type listensAt map[sockets.Key]*nginxconf.Listen

// index is the function of this name, called once a look for each
// configuration.
func (e evidence) index(c *nginxconf.Config) listensAt {
	if e.indexes[c] == nil {
		e.indexes[c] = index(c)
	}
	return e.indexes[c]
}

// evidence looks at the sockets of the namespace.
func (f *fleet) evidence() evidence {
	var pids []int
	for _, i := range f.instances {
		pids = append(pids, i.pids()...)
	}
	look, err := sockets.Take(f.kernel, "", pids)
	f.troubles.note(aboutSockets, err)
	e := evidence{look, map[sockets.Key]bool{}, map[*nginxconf.Config]listensAt{}}
	for _, l := range f.settings.Listens {
		for port := int(l.Ports.First); port <= int(l.Ports.Last); port++ {
			k := sockets.Key{Addr: l.Addr, Port: uint16(port), Transport: l.Transport}
			e.named[k] = true
		}
	}
	return e
}

func (i *instance) pids() (out []int) {
	for _, m := range i.masters {
		out = append(out, m.PID)
	}
	return out
}

// of returns the sockets of a master. ok is false if they cannot be known.
func (e evidence) of(master int) (list []host.Socket, ok bool) {
	if e.Look == nil {
		return nil, false
	}
	return e.Look.Of(master)
}

// keysOf returns where a listen listens, a key for each port.
func keysOf(l *nginxconf.Listen) (out []sockets.Key) {
	for port := int(l.First); port <= int(l.Last); port++ {
		out = append(out, keyOf(l, port))
	}
	return out
}

func keyOf(l *nginxconf.Listen, port int) sockets.Key {
	return sockets.Key{Addr: l.Addr, Port: uint16(port),
		Transport: routing.Transport(l.Transport)}
}

// index returns the listens of a configuration by where they listen.
func index(c *nginxconf.Config) listensAt {
	if c == nil {
		return listensAt{}
	}
	out := make(listensAt, len(c.Listens))
	for n := range c.Listens {
		l := &c.Listens[n]
		for port := int(l.First); port <= int(l.Last); port++ {
			out[keyOf(l, port)] = l
		}
	}
	return out
}

// differences describes in sentences how a configuration differs from the
// sockets of a master. A listen on a loopback address needs no way. A listen of
// an unknown module may open none.
func (e evidence) differences(c *nginxconf.Config, master int) (out []string) {
	open, ok := e.of(master)
	if !ok {
		return nil
	}
	listens, has := e.index(c), make(map[sockets.Key]bool, len(open))
	for _, s := range open {
		k := sockets.KeyOf(s)
		has[k] = true
		if k.Addr == netip.IPv6Unspecified() && !s.IPv6Only {
			has[sockets.Key{Addr: netip.IPv4Unspecified(), Port: k.Port,
				Transport: k.Transport}] = true
		}
		if listens[k] == nil && !e.named[k] && !k.Addr.IsLoopback() {
			out = append(out, unnamedSocket(listenOf(s)))
		}
	}
	var closed []sockets.Key
	for k, l := range listens {
		wild := k
		if wild.Addr = netip.IPv4Unspecified(); k.Addr.Is6() {
			wild.Addr = netip.IPv6Unspecified()
		}
		known := l.Context == "http" || l.Context == "stream" || l.Context == "mail"
		if known && !has[k] && !has[wild] {
			closed = append(closed, k)
		}
	}
	slices.SortFunc(closed, sockets.Key.Compare)
	for _, k := range closed {
		out = append(out, fmt.Sprintf("the files name %s %s, where NGINX does not "+
			"listen", k.Transport, netip.AddrPortFrom(k.Addr, k.Port)))
	}
	return out
}

// unnamedSocket is the difference of a socket that no listen names.
func unnamedSocket(l *nginxconf.Listen) string {
	return fmt.Sprintf("NGINX listens on %s %s, which the files do not name",
		l.Transport, l.Text)
}

// news returns the first difference that is not known; "" if there is none.
func news(differences, known []string) string {
	for _, d := range differences {
		if !slices.Contains(known, d) {
			return d
		}
	}
	return ""
}

// judge decides what the master that loaded last has loaded: what is on disk,
// unless the files or its sockets contradict. It reports whether the listeners
// may have changed.
func (f *fleet) judge(i *instance, now time.Time) (changed bool) {
	if i.first.PID == 0 {
		i.loads(i.by, f.watcher.Workers()[i.by].Current)
	}
	e, why, was := f.evidence(), i.unread(), i.doubt
	disk, loaded := e.differences(i.disk, i.by), e.differences(i.loaded, i.by)
	adopts := i.loaded == nil && i.broken == nil
	why, i.differs = cmp.Or(why, i.late()), nil
	if why == "" {
		i.differs = slices.DeleteFunc(slices.Clone(disk),
			func(d string) bool { return !slices.Contains(loaded, d) })
	}
	if i.unread() == "" {
		why = cmp.Or(why, news(disk, i.differed))
		adopts = adopts || why == ""
		_, known := e.of(i.by)
		if why != "" && known && i.loaded != nil && news(loaded, i.differed) == "" {
			why = "" // it was no load, or the files were edited after it
			i.of[i.by] = i.loaded
		}
	}
	if adopts {
		i.adopt(f.earlierWorkers(i, i.by), now)
		i.of[i.by] = i.loaded
	}
	i.doubt, i.settled = why, i.settled || why == ""
	switch {
	case why != "" && why != was:
		f.log.Warn("not sure what NGINX has loaded: lasthop adds paths and removes "+
			"nothing", "conf", i.Conf, "pid", i.by, "why", why)
	case why == "" && was != "":
		f.log.Info("sure again what NGINX has loaded", "conf", i.Conf, "pid", i.by)
	}
	return i.addServed(e) || adopts || why != was // what was kept may go
}

// unread returns why NGINX cannot have read what is on disk, whatever it read;
// "" if it may have.
func (i *instance) unread() string {
	if i.reading != nil {
		return "the files are being read"
	}
	if i.broken != nil {
		return "lasthop cannot read the configuration on disk"
	}
	for _, name := range slices.Sorted(maps.Keys(i.disk.Names)) {
		if len(i.disk.Names[name]) == 0 {
			return fmt.Sprintf("the host name %s in a listen does not resolve", name)
		}
	}
	return ""
}

// late returns the file that was changed after the workers of the last load had
// been forked; "" if there is none. A worker's start is known to a tick of 10
// ms, and the time of a change to one of the kernel's, so a change within that
// time counts as earlier: the sockets decide.
func (i *instance) late() string {
	const slack = 15 * time.Millisecond
	if name, at := i.disk.Modified(); i.first.PID != 0 && at.After(i.first.Time().Add(slack)) {
		return fmt.Sprintf("%s was changed after NGINX had forked its workers", name)
	}
	return ""
}

// addServed adds the listeners that the masters of an instance have sockets for
// and that nothing names yet; while there is doubt, also those on disk that
// have a socket. It reports whether there are any.
func (i *instance) addServed(e evidence) (added bool) {
	if e.Look == nil {
		return false
	}
	more, loaded := maps.Clone(e.named), e.index(i.loaded)
	known := func(k sockets.Key) bool { return more[k] || loaded[k] != nil }
	for _, l := range i.leaving {
		for _, k := range keysOf(l.listener) {
			more[k] = true
		}
	}
	add := func(l *nginxconf.Listen) {
		for _, k := range keysOf(l) {
			more[k] = true
		}
		i.leaving = append(i.leaving, leaving{listener: l, owner: sockets.NGINX})
		added = true
	}
	for _, m := range i.masters {
		open, _ := e.of(m.PID)
		for _, s := range open {
			if k := sockets.KeyOf(s); known(k) || k.Addr.IsLoopback() {
				continue
			} else if l := e.index(i.disk)[k]; l != nil {
				add(l)
			} else {
				add(listenOf(s))
			}
		}
	}
	if i.doubt == "" {
		return added
	}
	for n := range i.disk.Listens {
		l := &i.disk.Listens[n]
		open := func(k sockets.Key) bool { return !known(k) }
		if slices.ContainsFunc(keysOf(l), open) && e.owner(i, l, nil) >= sockets.Unknown {
			add(l)
		}
	}
	return added
}

// listenOf returns the listen of a socket that no configuration names.
func listenOf(s host.Socket) *nginxconf.Listen {
	text := s.Local.String()
	if s.Local.Addr() == netip.IPv4Unspecified() {
		text = fmt.Sprintf("*:%d", s.Local.Port())
	}
	return &nginxconf.Listen{Addr: s.Local.Addr(), First: s.Local.Port(), Last: s.Local.Port(),
		Transport: string(s.Transport), Context: "socket", Text: text, IPv6Only: s.IPv6Only}
}

// owner returns the owner of the sockets that get the packets to a listener; of
// several, the instance comes first. Sockets that other listeners explain do
// not count: the way of what a wildcard serves comes from that wildcard.
func (e evidence) owner(i *instance, l *nginxconf.Listen,
	explained map[sockets.Key]*nginxconf.Listen) (owner sockets.Owner) {
	if e.Look == nil {
		return sockets.Unknown
	}
	for _, k := range keysOf(l) {
		for _, s := range e.At(k) {
			if at := sockets.KeyOf(s); at == k || explained[at] == nil {
				owner = max(owner, e.Owner(s, i.pids()))
			}
		}
	}
	return owner
}

// recheck compares the belief with the sockets, if it is in doubt or if they
// differ. It reports whether the listeners may have changed.
func (f *fleet) recheck(now time.Time) (changed bool) {
	e := f.evidence()
	for _, i := range f.instances {
		if len(i.masters) == 0 {
			continue
		}
		strays := news(e.differences(i.loaded, i.by), i.differed) != ""
		if strays && i.doubt == "" {
			i.first = watcher.Process{} // it was a load
		}
		if strays || i.doubt != "" || i.loaded == nil {
			was, sure := i.loaded, i.doubt == ""
			changed = f.judge(i, now) || changed
			if sure && i.loaded != was {
				i.generation, i.loadedAt, f.loads = i.generation+1, now, f.loads+1
				i.sayLoaded(f.log)
			}
		} else {
			changed = i.addServed(e) || changed
		}
	}
	return changed
}

// sayLoaded logs that NGINX has loaded what is on disk, if that is sure.
func (i *instance) sayLoaded(log *slog.Logger) {
	if i.loaded == i.disk && i.doubt == "" {
		log.Info("NGINX has loaded its configuration", "conf", i.Conf, "pid", i.by,
			"generation", i.generation, "listens", len(i.loaded.Listens),
			journal.EventKey, journal.Loaded)
	}
}

// doubtful reports whether it is not sure what NGINX has loaded.
func (i *instance) doubtful() bool { return i.doubt != "" }

// scarce reports whether the files cannot be read because a resource is used
// up: no event reports the end of that.
func (i *instance) scarce() bool { return writer.Scarce(i.broken) }

// handBack makes what another master has loaded count again, if the one that
// loaded last has ended: an aborted upgrade of the binary. It reports whether
// that is so.
func (i *instance) handBack(now time.Time) bool {
	running := i.pids()
	maps.DeleteFunc(i.of, func(pid int, _ *nginxconf.Config) bool {
		return !slices.Contains(running, pid)
	})
	if len(running) == 0 {
		i.by, i.doubt = 0, ""
		return false
	}
	if i.by == 0 || slices.Contains(running, i.by) || i.fresh != 0 {
		return false
	}
	i.belief = belief{by: running[len(running)-1], of: i.of, doubt: i.doubt, settled: i.settled}
	if c := i.of[i.by]; c != nil {
		i.doubt = ""
		i.keep(i.loaded, c, nil, now)
		i.loaded = c
	}
	return true
}

// kept returns which listeners stay because of a socket. A socket that no
// configuration named, now and at the load before, belongs to a module.
func (i *instance) kept() (f routing.Finding, ok bool) {
	var named, unnamed, unknown []string
	for _, l := range i.leaving {
		text := fmt.Sprintf("%s %s", l.listener.Transport, l.listener.Text)
		switch {
		case l.owner == sockets.Unknown:
			unknown = append(unknown, text)
		case l.owner != sockets.NGINX: // old workers have it
		case slices.Contains(i.differed, unnamedSocket(l.listener)):
			unnamed = append(unnamed, text)
		default:
			named = append(named, text)
		}
	}
	switch {
	case len(named) > 0:
		f = i.advise(routing.Warning.Finding("not-loaded", i.Conf, "NGINX listens on %s, "+
			"which its configuration does not name: lasthop keeps the path of the "+
			"replies while the socket is open", routing.Some(named, 3)))
	case len(unknown) > 0:
		f = routing.Warning.Finding("not-loaded", i.Conf, "a socket is open on %s, "+
			"which is no longer in NGINX's configuration, and lasthop cannot see "+
			"its owner: it treats the socket as NGINX's and keeps the path of its "+
			"replies",
			routing.Some(unknown, 3)).
			Advise("run lasthop with CAP_SYS_PTRACE, or see the owner: ss -lnptu")
	case len(unnamed) > 0:
		f = routing.Warning.Finding("socket-unexplained", i.Conf, "NGINX listens on %s, "+
			"which no listen of its configuration names: lasthop keeps a path for "+
			"its replies while the socket is open", routing.Some(unnamed, 3)).
			Advise("if a module opened it, name it with --listen")
	}
	return f, f.Code != ""
}
