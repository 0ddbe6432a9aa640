package bigip

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// restVirtual is an item with what a test adds.
func restVirtual(members string) string {
	return `{"kind": "tm:ltm:virtual:virtualstate", "fullPath": "/Common/v", ` +
		`"destination": "/Common/192.0.2.1:80", "ipProtocol": "tcp"` + members + "}"
}

// TestRESTHostile: answers that no BIG-IP gives are read or refused, soon and
// with a hint.
func TestRESTHostile(t *testing.T) {
	deep := func(n int) string {
		return restVirtual(`, "a": ` + strings.Repeat(`[{"b": `, n) + "1" + strings.Repeat("}]", n))
	}
	for what, tt := range map[string]struct{ text, want string }{
		"plain":        {restVirtual(""), ""},
		"deep":         {deep(20), ""},
		"too deep":     {deep(100), "x.json: is nested deeper than any answer of iControl REST"},
		"abyss":        {deep(1 << 20), "x.json: is nested deeper than any answer of iControl REST"},
		"huge number":  {restVirtual(`, "connectionLimit": 1` + strings.Repeat("0", 1<<20)), ""},
		"exponent":     {restVirtual(`, "connectionLimit": -1.5E+999999999`), ""},
		"twice":        {restVirtual(`, "destination": "/Common/192.0.2.1:80", "kind": "tm:ltm:virtual:virtualstate"`), ""},
		"not UTF-8":    {restVirtual(", \"description\": \"\xff\xfe\x80\""), ""},
		"control":      {restVirtual(`, "description": "\u0000\u001b[31m\ud800 } { \" \\"`), ""},
		"long string":  {restVirtual(`, "description": "` + strings.Repeat("secret", 1<<20) + `"`), ""},
		"odd values":   {restVirtual(`, "vlans": {"x": [[], {}, [1, [2]], null]}, "rules": 7, "policiesReference": "x", "fullPath": null, "mask": {"a": 1}, "": 1, "tm": 1, "Reference": {"items": 1}`), ""},
		"truncated":    {restVirtual("")[:60], "x.json: ends in the middle: the JSON is truncated"},
		"end of value": {`{"kind":`, "x.json: ends in the middle: the JSON is truncated"},
		"no JSON": {"{\n\"kind\": \"tm:ltm:virtual:virtualstate\",\nx}",
			"x.json:3: is not readable JSON: invalid character 'x'"},
		"one too many": {restVirtual("") + "\n]", "x.json:2: is not readable JSON: " +
			"invalid character ']' looking for beginning of value"},
		"selected": {`{"kind": "tm:ltm:virtual:virtualcollectionstate", "selfLink": "https://localhost/mgmt/tm/ltm/virtual?$select=name&ver=15.1.8", "items": [{"name": "v"}]}`,
			"x.json: lacks some properties: the request had $select"},
		"error and item": {restVirtual("") + `{"code": 401, "message": "Authorization failed", "errorStack": []}`, "x.json: has an answer of iControl REST with the error 401"},
		"module missing": {restVirtual("") + `{"code": 404, "message": "Public URI path not registered", "errorStack": []}`, ""},
		"no kind": {`{"items": [{"name": "v"}]}`, "x.json: is JSON, but not an " +
			"answer of iControl REST"},
		"other kind": {`{"kind": "cm:adc-core:ltm:virtual:virtualstate", "name": "v"}`,
			"x.json: is JSON, but not an answer of iControl REST"},
		"odd kind": {`{"kind": "tm:ltm:virtual /Common/x { }:state", "name": "v"}`,
			"x.json: is JSON, but not an answer of iControl REST"},
		"empty": {`{"kind": "tm:ltm:virtual:virtualcollectionstate", "selfLink": "x"}`, "x.json: has no stanza of a BIG-IP configuration"},
	} {
		c, err := Parse("x.json", []byte(tt.text))
		if tt.want != "" {
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %s", what, err, tt.want)
			} else if e, ok := errors.AsType[*Error](err); !ok || e.Hint() == "" {
				t.Errorf("%s: %v has no hint", what, err)
			}
			continue
		}
		if err != nil || len(c.Virtuals) != 1 ||
			!c.Virtuals[0].Destinations[0].Addrs.IsValid() {
			t.Errorf("%s: %v %+v", what, err, c.Virtuals)
			continue
		}
		if text := dump(c); strings.Contains(text, "secret") ||
			strings.Contains(text, "\x1b") {
			t.Errorf("%s: a description is kept", what)
		}
	}
}

// TestRESTLimits: values are counted before they take memory.
func TestRESTLimits(t *testing.T) {
	for _, text := range []string{restVirtual(`, "a": [` + strings.Repeat("1,", 1000) + "1]"),
		"[" + strings.Repeat(restVirtual("")+",", 100) + restVirtual("") + "]",
		strings.Repeat(restVirtual(""), 100)} {
		l := loader{limits: defaultLimits}
		l.limits.words = 500
		err := l.input("x.json", strings.NewReader(text), 0)
		if e, ok := errors.AsType[*Error](err); !ok || e.What != errNodes.Error() {
			t.Error(err)
		}
	}
	l := loader{limits: defaultLimits}
	l.limits.words = 500
	for range 99 { // several files count together
		if err := l.input("x.json", strings.NewReader(restVirtual("")), 0); err != nil {
			if l.words < 400 {
				t.Error(l.words, err)
			}
			return
		}
	}
	t.Error("no end after", l.words, "words")
}

// TestRESTNotExpanded: subcollections that decide something and that are only
// linked are named once, and are not in an answer that was asked for them.
func TestRESTNotExpanded(t *testing.T) {
	const text = `[{"kind": "tm:ltm:pool:poolcollectionstate", "selfLink": "https://localhost/mgmt/tm/ltm/pool?%sver=15.1.8", "items": [
{"kind": "tm:ltm:pool:poolstate", "fullPath": "/Common/p", "membersReference": {"link": "x", "isSubcollection": true}},
{"kind": "tm:ltm:pool:poolstate", "fullPath": "/Common/q", "membersReference": {"link": "x", "isSubcollection": true}}]},
{"kind": "tm:ltm:virtual:virtualstate", "fullPath": "/Common/v", "destination": "192.0.2.1:80", "selfLink": "https://localhost/mgmt/tm/ltm/virtual/~Common~v?%[1]sver=15.1.8",
"policiesReference": {"link": "x", "isSubcollection": true}, "profilesReference": {"link": "x", "isSubcollection": true}}]`
	for query, want := range map[string][]string{"": {"ltm pool: members", "ltm virtual: policies"},
		"expandSubcollections=true&": nil} {
		c, err := Parse("x.json", fmt.Appendf(nil, text, query))
		if err != nil || c.Version != "15.1.8" {
			t.Fatal(err, c.Version)
		}
		var got []string
		for _, w := range c.Warnings {
			got = append(got, w.Subject)
			if w.Code != "not-expanded" || w.Origin != "x.json" {
				t.Errorf("%+v", w)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -want +got\n%s", query, diff)
		}
	}
}

// TestFormats: a text that is no configuration is named by its format. Alone it
// is an error, next to a configuration a warning.
func TestFormats(t *testing.T) {
	const mark = "(ltm virtual /Common/not-me { })"
	for want, texts := range map[string][]string{
		"is an AS3 declaration": {`{"class":"ADC","schemaVersion":"3.7.0","T":{"class":"Tenant"}}`,
			"{\n    \"$schema\": \"x\",\n    \"class\" : \"AS3\",\n    \"declaration\": {\"items\": [1]}\n}"},
		"is a declaration of Declarative Onboarding (DO)": {`{"schemaVersion": "1.0.0", "class": "Device", "Common": {"class": "Tenant2"}}`},
		"is a file of " +
			"Terraform": {"provider \"bigip\" {\n}\nresource \"bigip_ltm_virtual_server\" \"https\" {\n  name = \"/Common/x\"\n}\n",
			`{"version": 4, "terraform_version": "1.5.7", "resources": []}`},
		"is a script of tmsh commands": {"#!/bin/bash\ntmsh create ltm pool p members add { 10.0.0.1:80 }\ntmsh create ltm virtual v { destination 10.0.0.2:80 }\n",
			"create ltm virtual /Common/v destination 10.0.0.2:80\n", "tmsh -c \"x\"\ntmsh -q modify /sys db connection.autolasthop value disable\n"},
		"is output of `tmsh show`":                      {"------------------------------\nLtm::Virtual Server: web\n------------------------------\nStatus\n  Availability     : available\n"},
		"is of BIG-IP Next":                             {"apiVersion: \"k8s.f5net.com/v1\"\nkind: F5SPKVlan\nspec:\n  auto_lasthop: AUTO_LASTHOP_ENABLED\n"},
		"is a Kubernetes resource":                      {"apiVersion: cis.f5.com/v1\nkind: VirtualServer\n"},
		"is an answer of iControl REST with statistics": {`{"kind":"tm:ltm:virtual:virtualcollectionstats","entries":{}}`},
		"is an answer of iControl REST with an error":   {`{"code":401,"message":"Authorization failed: no user authentication header","referer":"192.0.2.1","errorStack":[]}`},
		"is JSON, but not an answer of iControl REST":   {`{"a": 1}`, `[{"a": 1}]`},
		"has no stanza of a BIG-IP configuration": {"", "# nothing\n", "[section]\nkey=value\n",
			"http {\n    server {\n    }\n}\n", "\x7fELF\x02\x01" + mark, "!\nrouter bgp 1\n"},
	} {
		for _, text := range texts {
			_, err := Parse("f", []byte(text))
			checkError(t, text, err, "f: "+want)
			dir := write(t, map[string]string{"bigip.conf": mainConf, "other": text})
			other := filepath.Join(dir, "other")
			c, err := Load(filepath.Join(dir, "bigip.conf"), other)
			if err != nil {
				t.Errorf("%q: %v", text, err)
				continue
			}
			w := Warning{Code: "nothing-used", Subject: other, Origin: other,
				Message: "migrate uses nothing of this file: it " + want}
			if len(c.Warnings) == 1 {
				w.Hint = c.Warnings[0].Hint
			}
			if diff := cmp.Diff([]Warning{w}, c.Warnings); diff != "" || w.Hint == "" ||
				len(c.Virtuals) != 1 || c.Stanzas.Found != 1 {
				t.Errorf("%q: -want +got\n%s", text, diff)
			}
		}
	}
}

// TestStdin: "-" is the standard input, a text or an archive.
func TestStdin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "in")
	stdin := os.Stdin
	defer func() { os.Stdin = stdin }()
	for _, data := range [][]byte{[]byte(mainConf), []byte(restVirtual("")),
		gzipOf(t, tarOf(t, ucs))} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		os.Stdin = f
		c, err := Load("-")
		if err != nil || len(c.Virtuals) == 0 || c.Files[0].Name != "stdin" ||
			!strings.HasPrefix(c.Virtuals[0].Origin, "stdin:") {
			t.Error(err, c.Virtuals, c.Files)
		}
		f.Close()
	}
}

// TestQkview reads the configuration of a qkview, which has it where a UCS has
// it, among files that are not looked at.
func TestQkview(t *testing.T) {
	c, err := Parse("lb1.qkview", gzipOf(t, tarOf(t, []member{
		{name: "qkview_run.data", data: "x"},
		{name: "mcp_module.xml", data: "<Qkview/>"},
		{name: "stat_module.xml", data: "<Qkview/>"},
		{name: "config/bigip.conf", data: mainConf},
		{name: "config/bigip_base.conf", data: baseConf},
		{name: "config/profile_base.conf", data: "ltm profile tcp /Common/tcp { }\n"},
		{name: "config/BigDB.dat", data: bigDBDat},
		{name: "config/partitions/shop/bigip.conf", data: shopConf},
		{name: "config/partitions/shop/bigip_base.conf", data: ""},
		{name: "var/log/ltm", data: "ltm virtual /Common/no { }\n"},
		{name: "subpackages/asmqkview.tgz", data: "\x1f\x8b no archive"}})))
	if err != nil || len(c.Virtuals) != 2 || len(c.Warnings) > 0 || c.Global.Value != Disabled {
		t.Error(err, c.Virtuals, c.Warnings, c.Global)
	}
}

// FuzzREST is FuzzParse from answers of iControl REST on.
func FuzzREST(f *testing.F) {
	names, err := filepath.Glob("../testdata/rest/*.txtar")
	if err != nil || len(names) == 0 {
		f.Fatal(names, err)
	}
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if strings.HasSuffix(file.Name, ".json") {
				f.Add(file.Data)
			}
		}
	}
	f.Add([]byte(`{"class": "ADC", "code": 404}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		text := clean(string(data))
		l := loader{limits: defaultLimits}
		l.limits.words = 1 << 16
		if err := l.rest("x.json", text); err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Hint() == "" {
				t.Fatal("an error without a hint: ", err)
			}
			return
		}
		c, err := l.finish("x.json")
		if err != nil {
			return
		}
		account(t, c)
		for _, w := range c.Warnings {
			if !strings.HasPrefix(w.Origin, "x.json") {
				t.Fatalf("%+v", w)
			}
		}
		for _, v := range c.Virtuals {
			if slices.ContainsFunc(c.Ingresses(v), func(i Ingress) bool {
				return i.Return == "" || i.Level == "" || i.Value == ""
			}) {
				t.Fatalf("%+v", v)
			}
		}
	})
}
