package host

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"time"

	"lasthop/routing"
)

// DNATs lists the destination translations of the namespace, as `nft -j list
// ruleset` tells them. It needs root. Rules of iptables-legacy, and matches of
// iptables that nft cannot spell out, are not seen.
func (k *Kernel) DNATs() ([]routing.DNAT, error) {
	var out []byte
	err := k.inside(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		var err error
		out, err = exec.CommandContext(ctx, "nft", "-j", "list", "ruleset").Output()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list nftables: %w", err)
	}
	return decodeDNATs(out)
}

type nftRule struct {
	Family string `json:"family"`
	Table  string `json:"table"`
	Chain  string `json:"chain"`
	Handle int    `json:"handle"`
	Expr   []struct {
		Match *nftMatch `json:"match"`
		DNAT  *struct {
			Addr any `json:"addr"`
		} `json:"dnat"`
	} `json:"expr"`
}

type nftMatch struct {
	Op   string `json:"op"`
	Left struct {
		Payload struct {
			Protocol string `json:"protocol"`
			Field    string `json:"field"`
		} `json:"payload"`
	} `json:"left"`
	Right any `json:"right"`
}

func decodeDNATs(data []byte) ([]routing.DNAT, error) {
	var doc struct {
		Objects []struct {
			Rule *nftRule `json:"rule"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("read nftables' JSON: %w", err)
	}
	var out []routing.DNAT
	for _, o := range doc.Objects {
		if o.Rule == nil {
			continue
		}
		if d, ok := o.Rule.dnat(); ok {
			out = append(out, d)
		}
	}
	return out, nil
}

// dnat reads a rule. A match that is not understood leaves the rule as wide as
// without it.
func (r nftRule) dnat() (d routing.DNAT, ok bool) {
	d.Origin = fmt.Sprintf("nft: %s %s %s handle %d", r.Family, r.Table, r.Chain, r.Handle)
	for _, e := range r.Expr {
		if e.DNAT != nil {
			ok = true
			if s, literal := e.DNAT.Addr.(string); literal {
				d.To, _ = netip.ParseAddr(s)
			}
		}
		if e.Match == nil || e.Match.Op != "==" {
			continue
		}
		switch p := e.Match.Left.Payload; p.Field {
		case "daddr":
			d.Addrs = nftPrefixes(e.Match.Right)
		case "dport":
			d.Transport = p.Protocol
			d.First, d.Last = nftPorts(e.Match.Right)
		}
	}
	return d, ok
}

// nftPrefixes reads an address, a prefix, or a set of both.
func nftPrefixes(v any) []netip.Prefix {
	switch v := v.(type) {
	case string:
		if a, err := netip.ParseAddr(v); err == nil {
			return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
		}
	case map[string]any:
		if p, ok := v["prefix"].(map[string]any); ok {
			bits, _ := p["len"].(float64)
			addr, _ := p["addr"].(string)
			if a, err := netip.ParseAddr(addr); err == nil {
				return []netip.Prefix{netip.PrefixFrom(a, int(bits))}
			}
		}
		var out []netip.Prefix
		if set, ok := v["set"].([]any); ok {
			for _, x := range set {
				out = append(out, nftPrefixes(x)...)
			}
		}
		return out
	}
	return nil
}

// nftPorts reads a port or a range; of a set the smallest range that holds it.
func nftPorts(v any) (first, last uint16) {
	switch v := v.(type) {
	case float64:
		return uint16(v), uint16(v)
	case map[string]any:
		list, ok := v["range"].([]any)
		if !ok {
			list, _ = v["set"].([]any)
		}
		for _, x := range list {
			a, z := nftPorts(x)
			if first == 0 || a < first {
				first = a
			}
			last = max(last, z)
		}
	}
	return first, last
}
