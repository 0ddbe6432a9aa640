package migrate

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"lasthop/bigip"
	"lasthop/routing"
)

// summary reports what concerns the BIG-IP or this host as a whole.
func (j *joiner) summary() []routing.Finding {
	var warnings []routing.Finding
	for _, w := range j.config.Warnings {
		warnings = append(warnings, routing.Finding{Code: routing.Code(w.Code),
			Severity: routing.Warning,
			Subject:  w.Subject, Message: w.Message, Hint: w.Hint, Origin: w.Origin})
	}
	return slices.Concat(warnings, j.global(), j.nginx.unused(), unreadRules(j.config),
		translations(j.config), j.sourceChecking(), unitVLANs(j.config), j.cut.absent(),
		j.cut.pair.finding(j.cut.moves), sources(j.config), gateways(j.config, j.network),
		notJudged(j.config), j.selected.findings(),
		j.later.common(j.config, serving(j.config)))
}

// about returns the finding with the first names as its subject; nothing if
// there are no names.
func about(names []string, most int, f routing.Finding) []routing.Finding {
	if len(names) == 0 {
		return nil
	}
	f.Severity, f.Subject = routing.Info, routing.Some(names, most)
	return []routing.Finding{f}
}

// global reports that F5's default of the global setting decided something.
func (j *joiner) global() []routing.Finding {
	var names []string
	if j.config.Global.Value == "" && slices.ContainsFunc(j.rows, func(r Row) bool {
		return r.Level == string(bigip.ByVariable)
	}) {
		names = []string{bigip.LastHopVariable}
	}
	return about(names, 1, routing.Finding{Code: "global-unknown",
		Message: "no file has it (bigip.conf and an SCF never do): migrate assumes F5's " +
			"default, enable",
		Hint: "on the BIG-IP: tmsh list sys db " + bigip.LastHopVariable +
			"; if it is disable: --autolasthop disable. A UCS has it"})
}

// unused names the listeners of NGINX that stand for no virtual server.
func (n *listening) unused() []routing.Finding {
	var names []string
	seen, origin := map[string]bool{}, ""
	for i, l := range n.listeners {
		if n.used[i] || l.Addr.IsLoopback() {
			continue
		}
		name := endpoint(l.Addr, l.Ports)
		if l.Transport == routing.UDP {
			name += "/udp"
		}
		if seen[name] {
			continue
		}
		seen[name], names = true, append(names, name)
		if len(l.Origins) > 0 {
			origin = cmp.Or(origin, l.Origins[0])
		}
	}
	return about(names, 2, routing.Finding{Code: "new-listener", Origin: origin,
		Message: "NGINX listens there, but no virtual server in the files did",
		Hint:    "do nothing if it is a new service, else correct nginx.conf"})
}

// unreadRules names iRules that are in no file. F5's own never are, and set no
// way.
func unreadRules(c bigip.Config) []routing.Finding {
	var names []string
	origin := ""
	for v := range serving(c) {
		for _, r := range v.Rules {
			if r.Origin == "" && !strings.HasPrefix(path.Base(r.Name), "_sys_") {
				names, origin = appendNew(names, r.Name), cmp.Or(origin, v.Origin)
			}
		}
	}
	return about(names, 4, routing.Finding{Code: "rule-unknown", Origin: origin,
		Message: "iRules of virtual servers that are not in the files: they " +
			"may use lasthop or nexthop",
		Hint: "give the file that has them"})
}

// translations names the SNATs and NATs, which NGINX does not replace.
func translations(c bigip.Config) []routing.Finding {
	var snats, nats []string
	snat := routing.Finding{Code: "snat",
		Message: "the BIG-IP translated the sources of connections that servers made " +
			"through it; an NGINX host forwards nothing",
		Hint: "give the servers another gateway, or translate on a router"}
	for _, s := range c.SNATs {
		snats, snat.Origin = append(snats, s.Name), s.Origin
	}
	nat := routing.Finding{Code: "nat",
		Message: "the BIG-IP translated addresses one to one, " +
			"in both directions; NGINX does not",
		Hint: "listen on the translation address, or translate on a router"}
	for _, n := range c.NATs {
		nats, nat.Origin = append(nats, n.Name), n.Origin
	}
	return append(about(snats, 4, snat), about(nats, 4, nat)...)
}

// sourceChecking names the VLANs on which a strict reverse path check was in
// effect.
func (j *joiner) sourceChecking() []routing.Finding {
	var names []string
	origin := ""
	for _, v := range j.config.VLANs {
		if v.SourceChecking && slices.ContainsFunc(j.rows, func(r Row) bool {
			return r.VLAN == v.Name && r.Return == string(bigip.Routed)
		}) {
			names, origin = append(names, v.Name), v.Origin
		}
	}
	return about(names, 4, routing.Finding{Code: "source-checking", Origin: origin,
		Message: "the BIG-IP dropped packets of these VLANs whose replies would leave " +
			"by another; on Linux, strict rp_filter does that",
		Hint: "if you want it here: sysctl -w net.ipv4.conf.IF.rp_filter=1"})
}

// unitVLANs names the VLANs that bring no clients: only units of a pair talk on
// them.
func unitVLANs(c bigip.Config) []routing.Finding {
	var names []string
	origin := ""
	for _, v := range c.VLANs {
		if v.HA {
			names, origin = append(names, v.Name), cmp.Or(origin, v.Origin)
		}
	}
	return about(names, 4, routing.Finding{Code: "ha-vlan", Origin: origin,
		Message: "units of the pair talk there (cm device: configsync-ip, mirror-ip, " +
			"unicast-address), and the files name no clients there: migrate ignores " +
			"them for virtual servers that are enabled on all VLANs",
		Hint: "if clients come in by them, name them in the list of VLANs of the " +
			"virtual server"})
}

// absent names the addresses that have not moved yet.
func (c *cutover) absent() []routing.Finding {
	var names []string
	for _, m := range c.moves {
		if !m.present {
			names = append(names, m.addr.String())
		}
	}
	return about(names, 2, routing.Finding{Code: "address-missing",
		Message: "not on this host as long as the BIG-IP has them; you can install " +
			"their paths before they move",
		Hint: "the steps say when and how to add them"})
}
