package daemon

import (
	"time"

	"lasthop/routing"
)

// needless is a path that main, or a foreign rule, makes needless.
type needless struct {
	link   string
	family routing.Family
}

// forgetAfter is how long a needless path stays: a default route that flaps
// must not make rules come and go.
const forgetAfter = time.Minute

// keepNeedless keeps a path that has been needless for less than a minute. Its
// routes and rules follow the host as if it were needed.
func (r *reconciler) keepNeedless(d *routing.Decision, now time.Time) {
	wanted, still := d.Plan.State, map[needless]time.Time{}
	for _, p := range d.Plan.Paths {
		part := d.Spare(p.Link, p.Family)
		if len(p.Prefixes) > 0 || len(part.Rules) == 0 {
			continue
		}
		key := needless{p.Link, p.Family}
		since, ok := r.needless[key]
		if !ok {
			since = now
		}
		still[key] = since
		if end := since.Add(forgetAfter); now.Before(end) {
			r.agenda.by(doForget, end)
			wanted = wanted.Union(part)
			d.Diff = routing.Compare(d.Owned, wanted)
		}
	}
	r.needless = still
}
