package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"lasthop/nginxconf"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"
	"lasthop/watcher"
)

// doctor looks for what is wrong, for `lasthop check`: at the host as it was
// read, and on the machine itself at nftables, other programs' settings,
// NGINX's processes and the open sockets. It changes nothing.
type doctor struct {
	app      *app
	kernel   *host.Kernel
	view     *view
	root     string // where other programs' settings are below
	findings []routing.Finding
	unseen   []string        // what may not be looked at
	awaited  map[string]bool // origins of listens that NGINX has not loaded yet
}

// examine returns all findings of check. Of what may not be looked at it says
// so, once, and finds nothing.
func (a *app) examine(k *host.Kernel, v *view, checks []report.Checked,
	root string) []routing.Finding {
	d := doctor{app: a, kernel: k, view: v, root: root, awaited: map[string]bool{}}
	d.find(routing.Examine(v.host, v.plan, v.binds, v.policy)...)
	if k != nil {
		d.translations()
		d.purges()
		if err := d.nginx(); err != nil {
			d.cannotSee("NGINX's processes", err)
		}
	} else {
		d.find(translated(v.plan.Outcomes, v.beside.dnats)...) // of the capture
	}
	d.asymmetries(checks)
	if len(d.unseen) > 0 {
		a.ui.warn("not looked at: %s", strings.Join(d.unseen, ", "))
		if os.Geteuid() != 0 {
			a.ui.hint("as root check sees more")
		}
	}
	routing.SortFindings(d.findings)
	return d.findings
}

func (d *doctor) find(f ...routing.Finding) { d.findings = append(d.findings, f...) }

func (d *doctor) cannotSee(what string, err error) {
	d.unseen = append(d.unseen, fmt.Sprintf("%s (%v)", what, err))
}

// asymmetries turns bad verdicts into findings, one for each address. An
// unresolved listener has a finding that says why; to one that NGINX has not
// loaded yet no request comes.
func (d *doctor) asymmetries(checks []report.Checked) {
	seen := map[netip.Addr]bool{}
	for _, c := range checks {
		awaited := len(c.Origins) > 0 && !slices.ContainsFunc(c.Origins,
			func(o string) bool { return !d.awaited[o] })
		if !c.Verdict.Bad() || c.Status == routing.Unresolved || seen[c.Addr] || awaited {
			continue
		}
		seen[c.Addr] = true
		f := routing.Finding{Code: "asymmetric", Severity: routing.Error,
			Subject: c.Addr.String(),
			Message: fmt.Sprintf("requests to %s come in by %s, and replies to "+
				"clients behind it leave by %s", c.Addr, c.Want, c.Now),
			Hint: "see why: " + d.app.explainLine(c.Question)}
		if c.Verdict == report.NotHereWrong {
			f.Code, f.Severity = "not-armed", routing.Warning
			f.Message = fmt.Sprintf("%s is not here now; once it is, its requests "+
				"come in by %s, and replies to clients behind it leave by %s",
				c.Addr, c.Want, c.Now)
		}
		if !d.view.diff.Empty() {
			f.Hint = d.app.mend(d.view, d.findings)
		}
		if len(c.Origins) > 0 {
			f.Origin = c.Origins[0]
		}
		d.find(f)
	}
}

// mend is the command that carries out the plan. Where it takes something away
// while NGINX has yet to load what is on disk, that comes first: until then
// NGINX listens on what it has loaded.
func (a *app) mend(v *view, findings []routing.Finding) string {
	i := slices.IndexFunc(findings, func(f routing.Finding) bool {
		return f.Code == "not-loaded"
	})
	if i >= 0 && len(v.diff.DelRules) > 0 {
		return findings[i].Hint + " && " + a.likewise("apply")
	}
	return a.likewise("apply")
}

func (d *doctor) translations() {
	dnats, err := d.kernel.DNATs()
	if err != nil {
		d.cannotSee("nftables", err)
		return
	}
	d.find(translated(d.view.plan.Outcomes, dnats)...)
}

// purges looks for programs that delete what is ours.
func (d *doctor) purges() {
	who := suspect("/proc", d.app.netnsPath())
	if f, ok := networkdFinding(d.root, who); ok {
		d.find(f)
	}
	found, unseen := networkManagerFindings(d.root, who)
	d.find(found...)
	if unseen != nil {
		d.cannotSee("NetworkManager's profiles", unseen)
	}
}

// nginx looks at the masters that run: at what they have loaded, and at their
// sockets.
func (d *doctor) nginx() error {
	if len(d.view.configs) == 0 {
		return nil
	}
	masters, serving, pending, err := d.loads()
	if err != nil {
		return err
	}
	return d.sockets(serving, pending, masters)
}

// loads finds the masters, and which configurations run as they are on disk and
// which do not: these get a finding each.
func (d *doctor) loads() (masters []nginxconf.Master, serving, pending []configured, err error) {
	masters, strangers, err := d.app.masters()
	if err != nil {
		return nil, nil, nil, err
	}
	masters = append(masters, strangers...)
	for _, c := range d.view.configs {
		i := instance{source: c.source}
		runs := slices.DeleteFunc(slices.Clone(masters), func(m nginxconf.Master) bool {
			return !i.runs(m)
		})
		if f, late := d.notLoaded(c, runs); late {
			d.find(f)
			pending = append(pending, c)
		} else if len(runs) > 0 {
			serving = append(serving, c)
		}
	}
	return masters, serving, pending, nil
}

// timeOfDay is exact enough to show what came first.
const timeOfDay = time.DateTime + ".00"

// notLoaded says whether the configuration on disk is another than what its
// masters have loaded. A daemon that follows them knows; without one, what was
// changed after their workers were started is not loaded.
func (d *doctor) notLoaded(c configured, masters []nginxconf.Master) (f routing.Finding,
	late bool) {
	if known, ok := d.daemonSays(c); ok {
		return known, known.Code != ""
	}
	name, changed := c.Modified()
	for _, m := range masters {
		at, ok := watcher.LoadedAt("/proc", m.PID)
		if ok && changed.After(at.Add(exactness)) {
			return routing.Finding{Code: "not-loaded", Severity: routing.Info,
				Subject: c.conf, Origin: name,
				Message: fmt.Sprintf("%s was changed at %s, after NGINX %d had "+
					"loaded its configuration at %s", name,
					changed.Format(timeOfDay), m.PID, at.Format(timeOfDay)),
				Hint: "nginx -t && nginx -s reload"}, true
		}
	}
	return f, false
}

// daemonSays asks the daemon of this namespace whether a configuration is
// loaded: its finding, or none. ok is false where none follows it.
func (d *doctor) daemonSays(c configured) (f routing.Finding, ok bool) {
	var s report.Status
	if err := d.app.ask(d.kernel, http.MethodGet, pathStatus, nil, &s); err != nil {
		return f, false
	}
	follows := slices.ContainsFunc(s.Masters, func(m report.Master) bool {
		return m.Conf == c.conf && m.PID != 0
	})
	i := slices.IndexFunc(s.Plan.Findings, func(f routing.Finding) bool {
		return f.Code == "not-loaded" && f.Subject == c.conf
	})
	if i >= 0 {
		f = s.Plan.Findings[i]
	}
	return f, follows
}
