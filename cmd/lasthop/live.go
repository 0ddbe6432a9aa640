package main

import (
	"fmt"
	"net/netip"
	"slices"

	"lasthop/routing"
	"lasthop/routing/host"
)

// beside is what a plan speaks of beside the host and the listeners; nothing of
// it decides. What we may not look at is nil.
type beside struct {
	dnats        []host.DNAT
	sessions     []host.SessionGroup
	networkFiles map[string]string // see host.NetworkFiles
}

func (v *view) lookBeside(k *host.Kernel) {
	if dnats, err := k.DNATs(); err == nil {
		v.beside.dnats = dnats
	}
	if sessions, err := k.Sessions(); err == nil {
		v.beside.sessions = grouped(v.host, v.policy.Direct, sessions, ownSession())
	}
	if k.Own() {
		v.beside.networkFiles = host.NetworkFiles("/", v.host.Links)
	}
}

// addLive adds the findings that come from beside the host: translated
// listeners, and sessions that move. k is nil where a capture has told of them.
func (v *view) addLive(k *host.Kernel) {
	if k != nil {
		v.lookBeside(k)
	}
	v.addEstablished()
	v.plan.Findings = append(v.plan.Findings, translated(v.plan.Outcomes, v.beside.dnats)...)
}

// translated finds listeners whose packets nftables sends elsewhere: their
// replies are routed by the translated address.
func translated(outcomes []routing.Outcome, dnats []host.DNAT) []routing.Finding {
	var out []routing.Finding
	for _, o := range outcomes {
		for _, d := range dnats {
			if !hits(d, o) {
				continue
			}
			to := "another address"
			if d.To.IsValid() {
				to = d.To.String()
			}
			f := routing.Finding{Code: "dnat", Severity: routing.Warning,
				Subject: o.Addr.String(), Origin: d.Origin,
				Message: fmt.Sprintf("packets to %s port %d go to %s: their "+
					"replies take the way of that address", o.Addr,
					o.Ports.First, to),
				Hint: "let NGINX listen on the address that packets are sent to, " +
					"or drop the translation"}
			if !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	return out
}

func hits(d host.DNAT, o routing.Outcome) bool {
	if d.Transport != "" && d.Transport != string(o.Transport) || d.First != 0 &&
		(o.Ports.Last < d.First || d.Last < o.Ports.First) {
		return false
	}
	return slices.ContainsFunc(d.Addrs, func(p netip.Prefix) bool { return p.Contains(o.Addr) })
}
