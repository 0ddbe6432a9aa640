package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"lasthop/nginxconf"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"
)

// defaultConf is read where no NGINX runs and none is named.
const defaultConf = "/etc/nginx/nginx.conf"

// view is one look at everything: the host, what NGINX listens on, and what
// follows from both.
type view struct {
	host      routing.Host
	offline   bool
	taken     time.Time // when the host was read
	listeners []routing.Listener
	binds     []routing.Bind
	inputs    []report.Input
	configs   []configured
	warnings  []routing.Finding // about the configuration
	beside    beside
	policy    routing.Policy
	settings  settings
	owned     routing.State
	foreign   routing.Host // what is not ours; the daemon's alone
	plan      routing.Plan
	diff      routing.Diff
}

// look is the loop body that plan, check and apply share: read, decide,
// compare. k is nil with --host.
func (a *app) look(k *host.Kernel) (*view, error) {
	v, err := a.lookAtHost(k)
	if err != nil {
		return nil, err
	}
	if err := a.readListeners(k, v, v.settings); err != nil {
		return nil, err
	}
	if err := v.decide(); err != nil {
		return nil, err
	}
	return v, nil
}

// lookAtHost reads settings and host, but not yet what NGINX listens on.
func (a *app) lookAtHost(k *host.Kernel) (*view, error) {
	v := &view{taken: time.Now(), offline: k == nil}
	if err := a.readHost(k, v); err != nil {
		return nil, err
	}
	s, err := a.flags.settings()
	if err != nil {
		return nil, err
	}
	v.policy, v.settings = s.policy, s
	return v, nil
}

// listening is an error if nothing is: such a plan would take everything away,
// and that is for `clear` alone.
func (v *view) listening() error {
	if len(v.listeners) > 0 {
		return nil
	}
	return hint(errors.New("no listener is configured: nothing is changed"),
		"if NGINX listens nowhere any more, take everything away with: lasthop clear")
}

// decide makes the plan of what was read, and says what it changes.
func (v *view) decide() error {
	if err := v.policy.Validate(v.host); err != nil {
		return err
	}
	v.owned = routing.Owned(v.host, v.policy.Numbers)
	v.plan = routing.Build(v.host, v.listeners, v.binds, v.policy)
	v.diff = routing.Compare(v.owned, v.plan.State)
	v.plan.Findings = append(v.plan.Findings, v.warnings...)
	return nil
}

func (v *view) head() report.Head {
	return report.Head{Lasthop: buildVersion().Lasthop, Host: v.host.Name,
		Kernel: v.host.Kernel, Time: v.taken, Inputs: v.inputs}
}

// open opens the kernel, or nothing with --host.
func (a *app) open() (*host.Kernel, error) {
	if a.flags.host != "" {
		return nil, nil
	}
	k, err := host.Open(a.flags.netns)
	if err != nil {
		return nil, hint(err,
			"name it as `ip netns` lists it, or by the PID of one of its processes")
	}
	return k, nil
}

func (a *app) readHost(k *host.Kernel, v *view) error {
	if k != nil {
		var err error
		v.host, err = k.Read()
		return err
	}
	data, err := os.ReadFile(a.flags.host)
	if err != nil {
		return hint(fmt.Errorf("read captured host: %w", err),
			"make one on that host: lasthop capture > host.json")
	}
	c, err := host.DecodeCapture(a.flags.host, data)
	if err != nil {
		return err
	}
	if lacksIPv6Rules(c.Host) {
		return hint(fmt.Errorf("%s: rules: none is of IPv6, but addresses are",
			a.flags.host),
			`add what ip -6 -N -j -d rule prints, each with "family":"inet6", or make the capture with: lasthop capture > host.json`)
	}
	a.flags.captured = c
	v.host, v.taken, v.listeners, v.binds, v.warnings = c.Host, c.Time, c.Listens,
		c.Binds, c.Warnings
	v.beside = beside{c.DNATs, c.Sessions, c.NetworkFiles}
	v.inputs = mapped(c.Inputs, func(i host.Input) report.Input { return report.Input(i) })
	// else the plan is the one of that machine, made of its files
	if c.Inputs == nil || len(a.flags.confs) > 0 {
		v.inputs = []report.Input{{File: a.flags.host,
			SHA256: fmt.Sprintf("%x", sha256.Sum256(data)), Main: true}}
	}
	return nil
}

// lacksIPv6Rules finds the mistake that is easily made with a capture by `ip`,
// which lists one family at a time and does not say which. Without rules no
// reply would have a way; a kernel without any is not to be had where there are
// addresses.
func lacksIPv6Rules(h routing.Host) bool {
	six := func(a routing.Addr) bool {
		return a.Prefix.Addr().Is6() && a.Scope == routing.ScopeGlobal
	}
	return len(h.Rules) > 0 && slices.ContainsFunc(h.Addrs, six) &&
		!slices.ContainsFunc(h.Rules, func(r routing.Rule) bool {
			return r.Family == routing.IPv6
		})
}

// source is one main file of NGINX, the root below which it lies, and the user
// that starts NGINX.
type source struct {
	conf, root string
	uid        int
}

// readListeners loads the configurations: the named ones; or those of the NGINX
// that run in the namespace; or, with --host, what the capture holds; or the
// default one.
func (a *app) readListeners(k *host.Kernel, v *view, settings settings) error {
	sources, err := a.sources(k, v, settings)
	if err != nil {
		return err
	}
	for _, s := range sources {
		if err := v.load(s); err != nil {
			return err
		}
	}
	return v.addListens(settings.listens)
}

// addListens adds the listeners of --listen to those of the configurations, and
// ends the list.
func (v *view) addListens(listens []string) error {
	for _, s := range listens {
		l, err := parseListen(s)
		if err != nil {
			return err
		}
		v.listeners = append(v.listeners, l)
	}
	v.listeners = merge(v.listeners)
	return nil
}

func (a *app) sources(k *host.Kernel, v *view, settings settings) ([]source, error) {
	var out []source
	for _, c := range settings.confs {
		out = append(out, source{conf: c})
	}
	if len(out) > 0 {
		// they replace what a capture holds
		v.listeners, v.binds, v.warnings = nil, nil, nil
		return out, nil
	}
	if k == nil {
		if len(v.listeners) == 0 && len(settings.listens) == 0 {
			return nil,
				hint(fmt.Errorf("%s: the capture holds no listeners", a.flags.host),
					"name the configuration with --nginx-conf, or "+
						"listeners with --listen")
		}
		return nil, nil
	}
	out, err := a.running()
	if err != nil || len(out) > 0 {
		return out, err
	}
	if _, err := os.Stat(defaultConf); errors.Is(err, fs.ErrNotExist) {
		if len(settings.listens) > 0 {
			return nil, nil
		}
		return nil, hint(fmt.Errorf("no NGINX runs here, and there is no %s", defaultConf),
			"name its main file with --nginx-conf")
	}
	return []source{{conf: defaultConf}}, nil
}

// running returns the main files of the NGINX masters that run in the network
// namespace, each once.
func (a *app) running() ([]source, error) {
	masters, strangers, err := a.masters()
	if err != nil {
		return nil, err
	}
	for _, m := range strangers {
		a.ui.warn("%s", stranger(m))
	}
	var out []source
	for _, m := range masters {
		if m.Unverified != nil {
			a.ui.warn("NGINX %d: %v", m.PID, m.Unverified)
		}
		if s := (source{m.Conf, m.Root, m.UID}); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out, nil
}

// masters returns the masters that count. Any user can give a process the title
// of a master and a configuration of his own, which must not decide how this
// host routes: those of others than root and ourselves are strangers. In a
// namespace that was named they count, since it may be a rootless container's.
func (a *app) masters() (masters, strangers []nginxconf.Master, err error) {
	all, err := nginxconf.Masters(nginxconf.MastersOptions{NetNS: a.netnsPath()})
	for _, m := range all {
		if a.flags.netns == "" && m.Owner != 0 && m.Owner != os.Geteuid() {
			strangers = append(strangers, m)
		} else {
			masters = append(masters, m)
		}
	}
	return masters, strangers, err
}

func stranger(m nginxconf.Master) string {
	return fmt.Sprintf("NGINX %d is left out: it runs as user %d, not as root; if it is "+
		"meant, name its configuration with --nginx-conf %s", m.PID, m.Owner, m.Conf)
}

func (a *app) netnsPath() string { return host.NamespacePath(a.flags.netns) }

// configured is a configuration, and where it is from.
type configured struct {
	source
	nginxconf.Config
}

func (v *view) load(s source) error {
	c, err := s.load()
	if err != nil {
		return err
	}
	v.configs = append(v.configs, configured{s, c})
	v.add(c)
	return nil
}

func (s source) load() (nginxconf.Config, error) {
	return nginxconf.Load(s.conf, nginxconf.Options{Root: s.root, UID: s.uid})
}

// add takes in what a configuration says.
func (v *view) add(c nginxconf.Config) {
	for _, l := range c.Listens {
		v.listeners = append(v.listeners, listenersOf(l)...)
	}
	for _, b := range c.Binds {
		v.binds = append(v.binds, routing.Bind{Addr: b.Addr, Transparent: b.Transparent,
			Upstreams: b.Upstreams, Origin: b.Origin})
	}
	for i, f := range c.Files {
		v.inputs = append(v.inputs, report.Input{File: f, SHA256: c.Sums[i], Main: i == 0})
	}
	for _, w := range c.Warnings {
		v.warnings = append(v.warnings,
			host.NginxWarning(w.Code, w.Message, w.Hint, w.Origin))
	}
}

// listenersOf turns a listen into listeners: an IPv6 wildcard that takes IPv4
// too is two.
func listenersOf(l nginxconf.Listen) []routing.Listener {
	one := routing.Listener{Addr: l.Addr,
		Ports:     routing.PortRange{First: l.First, Last: l.Last},
		Transport: routing.Transport(l.Transport),
		Context:   l.Context, Listen: l.Text, Origins: []string{l.Origin},
		Servers: l.Servers}
	if l.Addr.Is6() && l.Addr.IsUnspecified() && !l.IPv6Only {
		four := one
		four.Addr = routing.IPv4.All().Addr()
		return []routing.Listener{four, one}
	}
	return []routing.Listener{one}
}

// merge makes one listener of those that share address, ports, transport and
// context: virtual servers of one socket.
func merge(list []routing.Listener) []routing.Listener {
	type key struct {
		addr      string
		ports     routing.PortRange
		transport routing.Transport
		context   string
	}
	index := map[key]int{}
	var out []routing.Listener
	for _, l := range list {
		k := key{l.Addr.String(), l.Ports, l.Transport, l.Context}
		i, ok := index[k]
		if !ok {
			index[k] = len(out)
			out = append(out, l)
			continue
		}
		out[i].Origins = appendNew(out[i].Origins, l.Origins)
		out[i].Servers = appendNew(out[i].Servers, l.Servers)
	}
	return out
}

func appendNew(list, more []string) []string {
	list = slices.Clone(list)
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
