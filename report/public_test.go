package report

import (
	"bytes"
	"encoding/gob"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

// secretive is a status that has to do with /etc/open.conf, which everybody may
// read, /etc/secret.conf, and /etc/new.conf, which is not there.
func secretive() (s Status) {
	s.Inputs = []Input{{File: "/etc/open.conf", SHA256: "aa"}, {File: "/etc/new.conf", SHA256: "5ec4e7"}, {File: "/etc/secret.conf", SHA256: "5ec4e7"}}
	s.Masters = []Master{{PID: 1, Conf: "/etc/open.conf"}, {PID: 2, Conf: "/etc/secret.conf"},
		{PID: 3, Conf: "/etc/secret.conf"}, {PID: 4, Conf: "/etc/secret-2.conf"},
		{PID: 5, Conf: "/etc/new.conf"}}
	s.Wrong = []string{"/etc/secret.conf:3: secretly", "/etc/open.conf:3: openly",
		"route 10.0.0.0/8, ::/0 and default via 10.0.0.1: openly",
		`open "/etc/secret with a space": secretly`}
	s.Last = Change{Cause: "secretly (/etc/secret.conf)", Error: "openly"}
	listener := func(listen, server string, origins ...string) {
		l := routing.Listener{Listen: listen, Origins: origins, Servers: []string{server}}
		s.Plan.Outcomes = append(s.Plan.Outcomes, routing.Outcome{Listener: l})
	}
	listener("open:80", "open", "/etc/open.conf:1", "--listen 10.0.0.1:80")
	listener("open:81", "secretly", "/etc/open.conf:1", "/etc/secret.conf:2")
	listener("secretly:82", "secretly", "/etc/secret.conf:2")
	s.Plan.Findings = []routing.Finding{
		{Code: "a", Subject: "10.0.0.1", Message: "openly", Hint: "write /etc/new.conf", Origin: "/etc/open.conf:7"},
		{Code: "b", Subject: "/etc/secret.conf", Message: "openly", Hint: "mend /etc/secret.conf"},
		{Code: "c", Subject: "/etc/new.conf", Message: "openly"},
		{Code: "d", Subject: "secretly:80", Message: "secretly", Hint: "secretly", Origin: "/etc/secret.conf:7"},
		{Code: "e", Subject: "10.0.0.1", Message: "secretly in /etc/secret-2.conf:3", Hint: "secretly"},
		{Code: "f", Subject: "10.0.0.1", Message: "openly", Origin: "from 10.0.0.0/24 lookup 5"},
	}
	return s
}

func secretReaders(root, file string) (everybody, gone bool) {
	return root == "" && file == "/etc/open.conf", file == "/etc/new.conf"
}

// TestPublic: everybody sees nothing of a file that not everybody may read, and
// all the rest.
func TestPublic(t *testing.T) {
	s := secretive()
	p := s.Public(secretReaders)
	all := strings.ReplaceAll(everything(t, p), hidden, "")
	if strings.Contains(all, "secret") || strings.Contains(all, "5ec4e7") {
		t.Errorf("something is told:\n%q", all)
	}
	if everything(t, s) != everything(t, secretive()) {
		t.Error("the status itself has changed")
	}
	open := s.Plan.Outcomes[0].Listener
	half := routing.Listener{Listen: "open:81", Origins: []string{"/etc/open.conf:1"}}
	listeners := []routing.Listener{open, half, {Origins: []string{}}}
	for i, want := range listeners {
		if got := p.Plan.Outcomes[i].Listener; !reflect.DeepEqual(got, want) {
			t.Errorf("listener: got %+v, want %+v", got, want)
		}
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"inputs", p.Inputs, s.Inputs[:1]},
		{"masters", p.Masters, []Master{s.Masters[0], {PID: 2, Conf: "private-1"}, {PID: 3, Conf: "private-1"}, {PID: 4, Conf: "private-2"}, s.Masters[4]}},
		{"wrong", p.Wrong, []string{hidden, s.Wrong[1], s.Wrong[2], hidden}},
		{"error", p.Last.Error, "openly"},
		{"findings", p.Plan.Findings, []routing.Finding{s.Plan.Findings[0], {Code: "b", Subject: "NGINX", Message: "openly"}, s.Plan.Findings[2],
			{Code: "d", Subject: "NGINX", Message: hidden}, {Code: "e", Subject: "NGINX", Message: hidden}, s.Plan.Findings[5]}},
	} {
		if d := cmp.Diff(c.want, c.got); d != "" {
			t.Errorf("%s: -want +got\n%s", c.what, d)
		}
	}
	s.Masters[0].Root = "/proc/1/root"
	p = s.Public(secretReaders)
	if len(p.Inputs) > 0 || len(p.Plan.Outcomes[0].Origins) != 1 {
		t.Errorf("a container's files may have the names of ours: %+v", p.Inputs)
	}
}

// everything is all that is in a status.
func everything(t *testing.T, s Status) string {
	t.Helper()
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
