package report

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lasthop/bigip/migrate"
	"lasthop/internal/hint"
)

// Since is what changed since an earlier document of the same kind.
type Since struct {
	Input
	Time    string    `json:"time,omitempty"` // of the earlier one, as what follows
	Host    string    `json:"host,omitempty"`
	BIGIP   string    `json:"bigip,omitempty"`
	Changes []Changed `json:"changes"` // in the order of the documents
}

// Changed is one thing that is in one of two documents, or not alike in both.
type Changed struct {
	// "new", "gone", "status"; with the same status "way", or "reason" for
	// what is missing or left out
	Change string   `json:"change"`
	Name   string   `json:"name"`  // of a virtual server
	Where  []string `json:"where"` // "10.0.0.1:443/tcp, /Common/external"
	Was    string   `json:"was,omitempty"`
	Is     string   `json:"is,omitempty"`
}

// place is a virtual server, and where clients connected to.
type place struct{ name, endpoint string }

func placeOf(r *migrate.Row) place { return place{r.Virtual, plainEndpoint(*r)} }

// state is what is compared of a place; by is a VLAN, "" for all of them.
type state struct {
	place
	by, status, fate, before string
}

func (s *state) String() string { return s.status + ": " + s.fate }

// states are those of rows, one for each VLAN.
func states(rows []migrate.Row) (out []state) {
	for i := range rows {
		r := &rows[i]
		vlans, before := r.VLANs, r.Before
		if len(vlans) == 0 {
			vlans = []string{r.VLAN}
		}
		if r.VLAN != "" {
			before = strings.ReplaceAll(before, r.VLAN, "its VLAN")
		}
		fate := plainFate(*r)
		if r.Status == migrate.NotApplicable {
			fate, before = r.Reason, ""
		}
		for _, vlan := range vlans {
			out = append(out, state{placeOf(r), vlan,
				r.Status, fate, before})
		}
	}
	return out
}

// compare returns what changed from one list of states to another. What is
// alike of a name is one Changed.
func compare(was, is []state) []Changed {
	old, now := map[place][]state{}, map[place][]state{}
	var places []place
	for _, s := range is {
		places, now[s.place] = append(places, s.place), append(now[s.place], s)
	}
	for _, s := range was {
		places, old[s.place] = append(places, s.place), append(old[s.place], s)
	}
	type alike struct{ name, change, was, is string }
	index, seen := map[alike]int{}, map[place]bool{}
	changes := []Changed{}
	for _, p := range places {
		if seen[p] {
			continue
		}
		seen[p] = true
		for _, by := range bys(now[p], old[p]) {
			c := difference(at(old[p], by), at(now[p], by))
			if c.Change == "" {
				continue
			}
			key := alike{p.name, c.Change, c.Was, c.Is}
			i, ok := index[key]
			if !ok {
				i, c.Name = len(changes), p.name
				index[key] = i
				changes = append(changes, c)
			}
			where := p.endpoint
			if by != "" {
				where += ", " + by
			}
			changes[i].Where = append(changes[i].Where, where)
		}
	}
	return changes
}

// bys are the VLANs of a place: "" alone if neither list has any.
func bys(lists ...[]state) (out []string) {
	for _, s := range slices.Concat(lists...) {
		if s.by != "" && !slices.Contains(out, s.by) {
			out = append(out, s.by)
		}
	}
	if len(out) == 0 {
		return []string{""}
	}
	return out
}

// at returns the state that holds for a VLAN; nil if there is none.
func at(list []state, by string) *state {
	i := slices.IndexFunc(list, func(s state) bool { return s.by == by || s.by == "" })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// difference is what changed; the zero Changed for nothing.
func difference(was, is *state) (c Changed) {
	switch {
	case was == nil:
		return Changed{Change: "new", Is: is.String()}
	case is == nil:
		return Changed{Change: "gone", Was: was.String()}
	case was.status != is.status:
		c.Change = "status"
	case was.fate != is.fate && is.status != migrate.Ready:
		c.Change = "reason"
	case was.fate != is.fate:
		c.Change = "way"
	case was.before != is.before:
		return Changed{Change: "way", Was: was.before + " -> " + was.String(),
			Is: is.before + " -> " + is.String()}
	default:
		return c
	}
	c.Was, c.Is = was.String(), is.String()
	return c
}

// Compare fills Since from the document of an earlier `migrate -o json`; file
// is where it was read. The error names a document that is none.
func (m *Migration) Compare(file string, doc []byte) error {
	var old struct {
		Version  int           `json:"version"`
		Kind     string        `json:"kind"`
		Time     string        `json:"time"`
		Host     string        `json:"host"`
		BIGIP    BIGIP         `json:"bigip"`
		Virtuals []migrate.Row `json:"virtuals"`
	}
	err := json.Unmarshal(doc, &old)
	switch {
	case err != nil:
	case old.Kind != "migrate" || old.Version != DocumentVersion:
		err = fmt.Errorf("kind %q, version %d: this lasthop does not read such a "+
			"report", old.Kind,
			old.Version)
	case old.Virtuals == nil || slices.ContainsFunc(old.Virtuals, func(r migrate.Row) bool {
		return r.Virtual == "" || statusRank(r.Status) < 0
	}):
		err = errors.New("a virtual server without name or status, or none at all")
	}
	if err != nil {
		return hint.New(fmt.Errorf("%s: %w", file, err),
			"make it with: lasthop migrate FILE... -o json")
	}
	m.Since = &Since{Input{File: file, SHA256: fmt.Sprintf("%x", sha256.Sum256(doc))},
		old.Time, old.Host, old.BIGIP.Hostname,
		compare(states(old.Virtuals), states(m.Rows))}
	return nil
}

// Title says since when, and how much has changed.
func (s *Since) Title() string {
	words := []string{s.Time, s.File}
	if s.BIGIP != "" {
		words = append(words, "BIG-IP "+s.BIGIP)
	}
	if s.Host != "" {
		words = append(words, "host "+s.Host)
	}
	n := counted(s.Changes, func(c Changed) string { return c.Change })
	what := kinds(n, func(n int, kind string) string { return number(n) + " " + kind },
		"new", "gone", "status", "reason", "way")
	if what == "" {
		what = "nothing has changed"
	}
	return "Since " + strings.Join(words, ", ") + ": " + what
}

// cells are kind, name, place, and what it was and is.
func (c Changed) cells() []string {
	fate := c.Was + " -> " + c.Is
	if c.Was == "" || c.Is == "" {
		fate = c.Was + c.Is
	}
	return []string{c.Change, c.Name, some(c.Where, 3), fate}
}

// text lists what changed.
func (s *Since) text(t *page) {
	if s == nil {
		return
	}
	t.printf("\n")
	t.wrap("", Escape(s.Title()))
	n := listed(len(s.Changes))
	t.table(mapped(s.Changes[:n], func(c Changed) row {
		return newRow("", mapped(c.cells(), Escape)...)
	}))
	if n < len(s.Changes) {
		t.printf("  … and %s more; all of them with -o json\n", number(len(s.Changes)-n))
	}
}
