package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"lasthop/internal/hint"
	"lasthop/internal/sockets"
	"lasthop/internal/survey"
	"lasthop/nginxconf"
	"lasthop/routing"
	"lasthop/routing/host"
)

// losing returns the sockets of NGINX that no listener of a plan names, and
// whose replies have a way now that the plan removes: NGINX has loaded
// something else than what is on disk. It returns none without sock_diag, or if
// it may not read the files of a master.
func losing(s *survey.Survey, k sockets.Lister, l Loaded) (list []string) {
	pids := running(l.Masters, s.NGINX.Configs...)
	look, err := sockets.Take(k, "", pids)
	if err != nil {
		return nil
	}
	d := doctor{survey: s}
	for _, pid := range pids {
		open, _ := look.Of(pid)
		for _, o := range open {
			if at := o.Local.Addr(); !d.named(o) && has(s.Decision.Owned, at) &&
				!has(s.Decision.Plan.State, at) {
				list = append(list, string(o.Transport)+" "+listenText(o))
			}
		}
	}
	return list
}

// running returns the masters that run with one of the configurations.
func running(masters []nginxconf.Master, configs ...survey.Config) (pids []int) {
	for _, m := range masters {
		if slices.ContainsFunc(configs,
			func(c survey.Config) bool { return c.Runs(m) }) {
			pids = append(pids, m.PID)
		}
	}
	return pids
}

// advise replaces the remedy of a finding, if NGINX must be restarted to load a
// configuration: see nginxconf.Config.Restart. If lasthop may not see which
// sockets are NGINX's, those of all programs count.
func (l Loaded) advise(f routing.Finding, c survey.Config, k sockets.Lister) routing.Finding {
	if f.Hint != survey.Reload {
		return f
	}
	open, err := k.Sockets()
	if err != nil {
		return f
	}
	inodes := map[uint32]bool{}
	seen := sockets.Holders("", running(l.Masters, c),
		func(inode uint32, _ int) { inodes[inode] = true })
	var loaded nginxconf.Config
	for _, s := range open {
		if seen == nil && !inodes[s.Inode] {
			continue
		}
		loaded.Listens = append(loaded.Listens, nginxconf.Listen{
			Addr: s.Local.Addr(), First: s.Local.Port(), Last: s.Local.Port(),
			Transport: string(s.Transport), IPv6Only: s.IPv6Only,
			Text: listenText(s)})
	}
	return survey.AdviseRestart(f, c.Config, loaded)
}

// Takes returns what NGINX has not loaded of what is on disk, and what it
// listens on whose way the plan removes. A plan that removes no rule returns
// none.
func Takes(s *survey.Survey, o Options) (l Loaded, err error) {
	if len(s.Decision.Diff.DelRules) == 0 {
		return l, nil
	}
	if l, err = Loads(s, o); err == nil {
		l.lose(s, o.Kernel)
	}
	return l, err
}

// lose adds what NGINX listens on and whose path the plan removes.
func (l *Loaded) lose(s *survey.Survey, k sockets.Lister) {
	list := losing(s, k, *l)
	if len(list) == 0 {
		return
	}
	f := routing.Warning.Finding("not-loaded", "NGINX", "NGINX listens on %s, which no listen "+
		"on disk names, and this plan removes its path", routing.Some(list, 3)).
		Advise(survey.Reload)
	for _, c := range s.NGINX.Configs {
		f = l.advise(f, c, k)
	}
	l.Losing = []routing.Finding{f}
}

// Refusals are why apply refuses the plan; none if it does not.
func (l Loaded) Refusals() (out []routing.Finding) {
	for _, f := range l.Findings {
		f.Severity = routing.Warning
		out = append(out, f)
	}
	for _, f := range l.Losing {
		f.Message += ": apply refuses this plan"
		out = append(out, f)
	}
	return out
}

// has reports whether replies from an address, or of a wildcard from some,
// match a rule.
func has(s routing.State, at netip.Addr) bool {
	return slices.ContainsFunc(s.Rules, func(r routing.Rule) bool {
		return r.From.Contains(at) || at.IsUnspecified() && r.From.Addr().Is4() == at.Is4()
	})
}

// listenText is the value of --listen for the address of a socket.
func listenText(s host.Socket) string {
	if s.Local.Addr() == netip.IPv4Unspecified() {
		return fmt.Sprintf("*:%d", s.Local.Port())
	}
	return s.Local.String()
}

// Refused is the error with which apply refuses the plan: NGINX listens, or may
// listen, on something that is not on disk.
func (l Loaded) Refused() error {
	if len(l.Losing) > 0 {
		return refused(l.Losing[0].Message, l.Losing[0].Hint)
	}
	f := l.Findings[0]
	return refused(f.Message+"; NGINX may still listen on addresses whose path this plan "+
		"removes", f.Hint)
}

func refused(why, remedy string) error {
	return hint.New(errors.New(why+": nothing is changed"),
		remedy+"; then run apply again, or only add: --no-delete")
}
