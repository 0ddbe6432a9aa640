package main

import (
	"fmt"
	"net/netip"
	"slices"

	"lasthop/routing"
	"lasthop/routing/host"
)

// addLive adds the findings that only the machine itself can give: translated listeners, and sessions that move. What we may not look
// at gives none.
func (v *view) addLive(k *host.Kernel) {
	v.addEstablished(k)
	if dnats, err := k.DNATs(); err == nil {
		v.plan.Findings = append(v.plan.Findings, translated(v.plan.Outcomes, dnats)...)
	}
}

// translated finds listeners whose packets nftables sends elsewhere: their replies are routed by the translated address.
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
			f := routing.Finding{Code: "dnat", Severity: routing.Warning, Subject: o.Addr.String(), Origin: d.Origin,
				Message: fmt.Sprintf("packets to %s port %d go to %s: their replies take the way of that address", o.Addr, o.Ports.First, to),
				Hint:    "let NGINX listen on the address that packets are sent to, or drop the translation"}
			if !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	return out
}

func hits(d host.DNAT, o routing.Outcome) bool {
	if d.Transport != "" && d.Transport != string(o.Transport) || d.First != 0 && (o.Ports.Last < d.First || d.Last < o.Ports.First) {
		return false
	}
	return slices.ContainsFunc(d.Addrs, func(p netip.Prefix) bool { return p.Contains(o.Addr) })
}
