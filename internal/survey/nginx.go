package survey

import (
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"lasthop/internal/settings"
	"lasthop/nginxconf"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/watcher"
)

// NGINX is what configurations of NGINX contain. The zero NGINX is empty.
type NGINX struct {
	Listeners []routing.Listener
	Binds     []routing.Bind
	Warnings  []routing.Finding
	Files     []report.Input // that it comes from
	Configs   []Config       // none of a capture
	Unix      int            // listens on Unix sockets, which are no listeners
}

// Config is a configuration and its source.
type Config struct {
	Source
	nginxconf.Config
}

// Source is one main file of NGINX, the root below which it lies, and the user
// that starts NGINX.
type Source struct {
	Conf, Root string
	UID        int
}

// SourceOf returns the source that a master has loaded its configuration from.
func SourceOf(m nginxconf.Master) Source { return Source{m.Conf, m.Root, m.UID} }

// Load reads and parses the configuration. Errors are of type *nginxconf.Error.
func (s Source) Load() (nginxconf.Config, error) {
	return nginxconf.Load(s.Conf, nginxconf.Options{Root: s.Root, UID: s.UID})
}

// named loads the configurations that the user names.
func named(confs []string) (NGINX, error) {
	var sources []Source
	for _, c := range confs {
		sources = append(sources, Source{Conf: c})
	}
	return load(sources)
}

// Configurations loads the configurations of NGINX that settings mean on this
// machine: those that the settings name, else those of the masters that run in
// the network namespace netns, else the one on disk, which may be missing if
// the settings name listeners. It does not use the kernel's routing. With an
// error it returns those that it loaded before.
func Configurations(s settings.Settings, netns string, warn func(string)) ([]Config, error) {
	n, err := named(s.Confs)
	if len(s.Confs) == 0 {
		n, err = running(netns, len(s.Listens) > 0, warn)
	}
	return n.Configs, err
}

func load(sources []Source) (n NGINX, err error) {
	for _, s := range sources {
		c, err := s.Load()
		if err != nil {
			return n, err
		}
		n.Configs = append(n.Configs, Config{s, c})
		n.Add(c)
	}
	return n, nil
}

// Add adds the contents of a configuration.
func (n *NGINX) Add(c nginxconf.Config) {
	n.Listeners, n.Unix = slices.Grow(n.Listeners, len(c.Listens)), n.Unix+c.Unix
	for _, l := range c.Listens {
		n.Listeners = append(n.Listeners, Listeners(l)...)
	}
	for _, b := range c.Binds {
		n.Binds = append(n.Binds, routing.Bind{Addr: b.Addr, Transparent: b.Transparent,
			Upstreams: b.Upstreams, Origin: b.Origin})
	}
	for i, f := range c.Files {
		n.Files = append(n.Files, report.Input{File: f, SHA256: c.Sums[i], Main: i == 0})
	}
	for _, w := range c.Warnings {
		n.Warnings = append(n.Warnings,
			routing.NginxWarning(w.Code, w.Message, w.Hint, w.Origin))
	}
}

// Inputs joins what NGINX listens on with a host and the settings.
func (n NGINX) Inputs(h routing.Host, s settings.Settings) routing.Inputs {
	return routing.Inputs{Host: h, Listeners: merge(slices.Concat(n.Listeners, s.Listens)),
		Binds: n.Binds, Policy: s.Policy, Warnings: n.Warnings}
}

// Listeners turns a listen into listeners: an IPv6 wildcard that takes IPv4 too
// is two.
func Listeners(l nginxconf.Listen) []routing.Listener {
	one := routing.Listener{Addr: l.Addr,
		Ports:     routing.PortRange{First: l.First, Last: l.Last},
		Transport: routing.Transport(l.Transport), Context: l.Context, Listen: l.Text,
		Origins: []string{l.Origin}, Servers: l.Servers}
	if l.Addr.Is6() && l.Addr.IsUnspecified() && !l.IPv6Only {
		four := one
		four.Addr = routing.IPv4.All().Addr()
		return []routing.Listener{four, one}
	}
	return []routing.Listener{one}
}

// mostNamed is how many virtual servers, and how many listen directives, a
// listener names: a wildcard is a row for each address of the host, and each
// row names them.
const mostNamed = 200

// merge makes one listener of those that share address, ports, transport and
// context: virtual servers of one socket.
func merge(list []routing.Listener) []routing.Listener {
	type key struct {
		addr      netip.Addr
		ports     routing.PortRange
		transport routing.Transport
		context   string
	}
	index := make(map[key]int, len(list))
	out := slices.Grow([]routing.Listener(nil), len(list))
	joined := make([]namesOf, 0, len(list))
	for _, l := range list {
		k := key{l.Addr, l.Ports, l.Transport, l.Context}
		i, ok := index[k]
		if !ok {
			i = len(out)
			index[k] = i
			out, joined = append(out, l), append(joined, namesOf{})
		}
		joined[i].origins.add(l.Origins)
		joined[i].servers.add(l.Servers)
	}
	for i, n := range joined {
		out[i].Origins, out[i].MoreOrigins = n.origins.most()
		out[i].Servers, out[i].MoreServers = n.servers.most()
	}
	return out
}

// namesOf returns the names that listens of one socket have together.
type namesOf struct{ origins, servers once }

// once is a list of distinct texts.
type once struct {
	list []string
	seen map[string]bool
}

func (o *once) add(texts []string) {
	for _, s := range texts {
		if !o.has(s) {
			o.list = append(o.list, s)
			if o.seen != nil {
				o.seen[s] = true
			}
		}
	}
}

// has reports whether a text is in the list. It makes a set only of a long
// list: most have one text, and some have 10,000.
func (o *once) has(text string) bool {
	if len(o.list) < 16 {
		return slices.Contains(o.list, text)
	}
	if o.seen == nil {
		o.seen = make(map[string]bool, 2*len(o.list))
		for _, s := range o.list {
			o.seen[s] = true
		}
	}
	return o.seen[text]
}

// most returns the first texts, and how many more there are.
func (o *once) most() (list []string, more int) {
	n := min(len(o.list), mostNamed)
	return slices.Clip(slices.Clone(o.list[:n])), len(o.list) - n
}

// Absolute returns the path of the main file as NGINX shows it.
func (s Source) Absolute() string {
	if abs, err := filepath.Abs(s.Conf); err == nil && s.Root == "" {
		return abs
	}
	return s.Conf
}

// Runs reports whether a master runs with the configuration.
func (s Source) Runs(m nginxconf.Master) bool { return s.Absolute() == m.Conf && s.Root == m.Root }

// Edit is a change of a configuration that a master has not loaded.
type Edit struct {
	File            string
	Changed, Loaded time.Time
}

// exactness is the precision of comparing times of files with times of
// processes: start times are in ticks of 10 ms, and the clock is read twice.
const exactness = 100 * time.Millisecond

// EditedSince reports whether a file of the configuration has changed after the
// master had loaded its own.
func EditedSince(c nginxconf.Config, master int) (Edit, bool) {
	name, changed := c.Modified()
	loaded, ok := watcher.LoadedAt("/proc", master)
	return Edit{name, changed, loaded}, ok && changed.After(loaded.Add(exactness))
}

// The remedies if NGINX has not loaded the files on disk.
const (
	Reload  = "nginx -t && nginx -s reload"
	Restart = "restart NGINX" // begins the remedy if a reload cannot load them
)

// AdviseRestart replaces the remedy of a finding by a restart of NGINX, if a
// reload cannot load the files on disk.
func AdviseRestart(f routing.Finding, disk, loaded nginxconf.Config) routing.Finding {
	is, was, needed := disk.Restart(loaded)
	if !needed {
		return f
	}
	return f.Advise(Restart+": a reload cannot open `listen %s` while `listen %s` is open",
		is.Text, was.Text).At(is.Origin)
}
