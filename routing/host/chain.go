package host

import (
	"encoding/binary"
	"errors"
	"fmt"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// This file reads the chains of nf_tables and finds which packets come to which
// of them.

type nftChain struct {
	family      uint8 // NFPROTO_*
	table, name string
}

var nftFamilies = map[uint8]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip",
	unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_NETDEV: "netdev"}

// String names a chain as nft does: "inet fw prerouting".
func (c nftChain) String() string {
	return fmt.Sprintf("%s %s %s", nftFamilies[c.family], c.table, c.name)
}

// nftRule is a rule of nf_tables.
type nftRule struct {
	nftChain
	handle      uint64
	expressions []attr
	only        uint8 // NFPROTO_* that it asks for; 0 for any
}

// decodeRuleHead reads a rule except for the contents of its expressions.
func decodeRuleHead(msg []byte) (r nftRule, err error) {
	h, list, err := decode[unix.Nfgenmsg](msg)
	if err != nil {
		return r, err
	}
	r.nftChain = nftChain{h.Nfgen_family, find(list, unix.NFTA_RULE_TABLE).string(),
		find(list, unix.NFTA_RULE_CHAIN).string()}
	if n := find(list, unix.NFTA_RULE_HANDLE).value; len(n) == 8 {
		r.handle = binary.BigEndian.Uint64(n)
	}
	r.expressions, err = attrs(find(list, unix.NFTA_RULE_EXPRESSIONS).value)
	return r, err
}

// expression splits an expression into its name and its data.
func expression(e attr) (name string, data []attr, err error) {
	expr, err1 := attrs(e.value)
	data, err2 := attrs(find(expr, unix.NFTA_EXPR_DATA).value)
	return find(expr, unix.NFTA_EXPR_NAME).string(), data, errors.Join(err1, err2)
}

// each visits the expressions of a rule, and records the family that the rule
// asks for.
func (r *nftRule) each(visit func(name string, data []attr) error) error {
	asked := false // for the family, by the expression before
	for _, e := range r.expressions {
		name, data, err := expression(e)
		if err == nil {
			err = visit(name, data)
		}
		if err != nil {
			return err
		}
		if value := dataValue(find(data, unix.NFTA_CMP_DATA)); name == "cmp" && asked &&
			find(data, unix.NFTA_CMP_OP).big() == unix.NFT_CMP_EQ && len(value) > 0 {
			r.only = value[0]
		}
		asked = name == "meta" &&
			find(data, unix.NFTA_META_KEY).big() == unix.NFT_META_NFPROTO
	}
	return nil
}

// sees reports whether the rule sees packets of a family.
func (r *nftRule) sees(f routing.Family) bool {
	proto := uint8(unix.NFPROTO_IPV4)
	if f == routing.IPv6 {
		proto = unix.NFPROTO_IPV6
	}
	if r.family == unix.NFPROTO_IPV4 || r.family == unix.NFPROTO_IPV6 {
		return r.family == proto
	}
	return r.only == 0 || r.only == proto
}

// verdict returns the chain that nested data leads to; it has no name if there
// is none.
func (r *nftRule) verdict(data attr) (nftChain, error) {
	list, err := attrs(data.value)
	if err != nil {
		return nftChain{}, err
	}
	verdict, err := attrs(find(list, unix.NFTA_DATA_VERDICT).value)
	return nftChain{r.family, r.table, find(verdict, unix.NFTA_VERDICT_CHAIN).string()}, err
}

// leads visits the chains that a rule leads to, by itself or by a map of
// verdicts.
func (r *nftRule) leads(elements func(set nftChain) ([]nftElement, error),
	visit func(nftChain)) error {
	to := func(data attr) error {
		chain, err := r.verdict(data)
		if chain.name != "" {
			visit(chain)
		}
		return err
	}
	return r.each(func(name string, data []attr) error {
		dreg := find(data, unix.NFTA_LOOKUP_DREG)
		switch {
		case name == "immediate":
			return to(find(data, unix.NFTA_IMMEDIATE_DATA))
		case name != "lookup" || dreg.value == nil || dreg.big() != unix.NFT_REG_VERDICT:
			return nil
		}
		list, err := elements(nftChain{r.family, r.table,
			find(data, unix.NFTA_LOOKUP_SET).string()})
		for _, e := range list {
			err = errors.Join(err, to(e.data))
		}
		return err
	})
}

// hooked is a chain of nf_tables that the kernel itself calls.
type hooked struct {
	nftChain
	hook uint32 // NF_INET_*; of a device NF_NETDEV_*
	kind string // "filter", "nat", "route"
	// the table belongs to a process, and ends with it
	owned bool
}

// local reports whether the chain sees only packets that this host sends or
// receives.
func (h hooked) local() bool {
	return h.family != unix.NFPROTO_NETDEV &&
		(h.hook == unix.NF_INET_LOCAL_IN || h.hook == unix.NF_INET_LOCAL_OUT)
}

// hookedChains lists the chains that the kernel calls. It calls no chain of a
// dormant table.
func (c *conn) hookedChains() ([]hooked, error) {
	const dormant, owned, persist = 1, 2, 4 // NFT_TABLE_F_*
	tables, err := c.listNFT(unix.NFT_MSG_GETTABLE, unix.NFT_MSG_NEWTABLE, nfMessage(0))
	if err != nil {
		return nil, err
	}
	chains, err := c.listNFT(unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_NEWCHAIN, nfMessage(0))
	flags := map[nftChain]uint32{} // by family and table
	for _, msg := range tables {
		h, list, bad := decode[unix.Nfgenmsg](msg)
		name := find(list, unix.NFTA_TABLE_NAME).string()
		flags[nftChain{h.Nfgen_family, name, ""}] = find(list, unix.NFTA_TABLE_FLAGS).big()
		err = errors.Join(err, bad)
	}
	var out []hooked
	for _, msg := range chains {
		h, list, err1 := decode[unix.Nfgenmsg](msg)
		hook, err2 := attrs(find(list, unix.NFTA_CHAIN_HOOK).value)
		err = errors.Join(err, err1, err2)
		number := find(hook, unix.NFTA_HOOK_HOOKNUM)
		table := find(list, unix.NFTA_CHAIN_TABLE).string()
		of := flags[nftChain{h.Nfgen_family, table, ""}]
		if len(number.value) == 4 && of&dormant == 0 {
			out = append(out, hooked{nftChain{h.Nfgen_family, table,
				find(list, unix.NFTA_CHAIN_NAME).string()}, number.big(),
				find(list, unix.NFTA_CHAIN_TYPE).string(),
				of&owned != 0 && of&persist == 0})
		}
	}
	return out, err
}

// familyChain is a chain as packets of one family see it.
type familyChain struct {
	nftChain
	routing.Family
}

// forwarded returns the chains that forwarded packets may come to. It follows
// the rules that were found: it reads the rules of all chains only if one of
// these rules is in a chain that other chains lead to.
func forwarded(c *conn, chains []hooked, found []nftLookup) (_ map[familyChain]bool, err error) {
	var from []familyChain
	called := map[nftChain]bool{}
	for _, h := range chains {
		called[h.nftChain] = true
		if !h.local() {
			from = append(from, familyChain{h.nftChain, routing.IPv4},
				familyChain{h.nftChain, routing.IPv6})
		}
	}
	leads := map[familyChain][]familyChain{}
	for _, r := range found {
		if !called[r.nftChain] {
			leads, err = c.leads()
			break
		}
	}
	return reached(from, func(c familyChain) []familyChain { return leads[c] }), err
}

// leads returns where chains lead to.
func (c *conn) leads() (map[familyChain][]familyChain, error) {
	messages, err := c.listNFT(unix.NFT_MSG_GETRULE, unix.NFT_MSG_NEWRULE, nfMessage(0))
	if err != nil {
		return nil, err
	}
	leads := map[familyChain][]familyChain{}
	for _, msg := range messages {
		r, err := decodeRuleHead(msg)
		if err != nil {
			return nil, err
		}
		err = r.leads(c.elements, func(to nftChain) {
			for _, f := range routing.Families {
				if from := (familyChain{r.nftChain, f}); r.sees(f) {
					leads[from] = append(leads[from], familyChain{to, f})
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return leads, nil
}

// reached returns the first chains and all chains that they lead to.
func reached[T comparable](first []T, leads func(T) []T) map[T]bool {
	all := map[T]bool{}
	for len(first) > 0 {
		x := first[len(first)-1]
		first = first[:len(first)-1]
		if !all[x] {
			all[x] = true
			first = append(first, leads(x)...)
		}
	}
	return all
}
