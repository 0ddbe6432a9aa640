package survey

import (
	"errors"
	"os"
	"time"

	"lasthop/internal/hint"
	"lasthop/report"
)

// Fleet merges files that `lasthop plan -o json` wrote on many hosts. The error
// names each file that is no plan.
func Fleet(files []string) (f report.Fleet, err error) {
	if len(files) == 0 {
		return f, hint.New(errors.New("--merge needs the plans of the hosts"),
			"name what lasthop plan -o json wrote: lasthop plan --merge *.json -o html")
	}
	head := report.Head{Lasthop: report.BuildVersion().Lasthop, Time: time.Now()}
	var hosts []report.FleetHost
	for _, file := range files {
		h, input, bad := readPlan(file)
		err = errors.Join(err, bad)
		hosts, head.Inputs = append(hosts, h), append(head.Inputs, input)
	}
	if err != nil {
		return f, err
	}
	return report.NewFleet(head, hosts)
}

func readPlan(file string) (report.FleetHost, report.Input, error) {
	doc, err := os.ReadFile(file)
	if err != nil {
		return report.FleetHost{}, report.Input{}, err
	}
	h, err := report.ReadPlan(file, doc)
	return h, report.InputOf(file, doc), err
}
