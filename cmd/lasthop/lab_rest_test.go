package main_test

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// migrateREST takes the answers of a BIG-IP's iControl REST with the lines of
// the page, as they stand there, and reads them.
func migrateREST(t *testing.T, g *guide) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	for name, text := range map[string]string{
		".netrc":  "machine lb1 login admin password secret\n",
		".curlrc": "insecure\nunix-socket = " + socket + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script, err := txtar.ParseFile("../../testdata/script/migrate-inputs.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if err := txtar.Write(script, dir); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "rest")); err != nil {
		t.Fatal(err)
	}
	serveREST(t, socket)
	page, err := os.ReadFile("../../docs/migrating-from-big-ip.md")
	if err != nil {
		t.Fatal(err)
	}
	curls := 0
	for _, line := range pageCommands(string(page)) {
		run := line
		switch {
		case strings.HasPrefix(line, "curl "):
			curls++
		case line == "lasthop migrate rest":
			run = "lasthop migrate --host host.json -c nginx.conf -o json rest " +
				"|| [ $? = 2 ]"
		case line != "mkdir rest":
			continue
		}
		c := exec.Command("sh", "-euc", run)
		c.Dir, c.Env = dir, append(os.Environ(), "HOME="+dir)
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		g.ran(line)
		if run != line {
			wantREST(t, out)
		}
	}
	if curls < 4 {
		t.Errorf("%d lines of the page begin with curl", curls)
	}
}

// wantREST wants what testdata/rest/web.txtar has.
func wantREST(t *testing.T, out []byte) {
	t.Helper()
	var got struct {
		BIGIP    struct{ Hostname, Version string } `json:"bigip"`
		Virtuals []struct{ Origin string }
		Findings []struct{ Code string }
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	var origins []string
	for _, r := range got.Virtuals {
		origins = append(origins, r.Origin)
	}
	want := []string{"rest/ltm-virtual.json: /Common/web", "rest/ltm-virtual.json: /Common/web6"}
	if diff := cmp.Diff(want, origins); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got.BIGIP.Hostname != "lb1.example.com" || got.BIGIP.Version != "16.1.3" {
		t.Errorf("%+v", got.BIGIP)
	}
	for _, f := range got.Findings {
		switch f.Code {
		case "not-expanded", "nothing-used", "global-unknown":
			t.Error(f.Code)
		}
	}
}

// serveREST answers as iControl REST of the BIG-IP of testdata/rest/web.txtar
// does: collections that it does not have are empty.
func serveREST(t *testing.T, socket string) {
	t.Helper()
	archive, err := txtar.ParseFile("../../testdata/rest/web.txtar")
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string][]byte{}
	for _, f := range archive.Files {
		var head struct{ SelfLink string }
		if json.Unmarshal(f.Data, &head) == nil {
			link, err := url.Parse(head.SelfLink)
			if err != nil {
				t.Fatal(err)
			}
			answers[link.Path] = f.Data
		}
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) {
		_, password, _ := r.BasicAuth()
		data := answers[r.URL.Path]
		expanded := r.URL.Query().Get("expandSubcollections") == "true"
		parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/mgmt/tm/"), "/")
		switch {
		case password != "secret":
			w.WriteHeader(http.StatusUnauthorized)
		case strings.Contains(string(data), "expandSubcollections") && !expanded:
			w.WriteHeader(http.StatusBadRequest)
		case data != nil:
			_, _ = w.Write(data)
		default:
			_ = json.NewEncoder(w).Encode(map[string]string{"selfLink": r.URL.String(),
				"kind": "tm:" + strings.Join(parts, ":") + ":" +
					parts[len(parts)-1] + "collectionstate"})
		}
	}))
	s.Listener.Close()
	if s.Listener, err = net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
}
