package bigip

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// corpusDir is the directory of real files: CORPUS, or its bigip where it has
// one.
func corpusDir(t *testing.T) string {
	dir := os.Getenv("CORPUS")
	if below := filepath.Join(dir, "bigip"); isDir(below) {
		dir = below
	}
	if !isDir(dir) {
		t.Skip(dir, " is not here")
	}
	return dir
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// headerLine is a header as a person who counts stanzas sees it.
var headerLine = regexp.MustCompile(`(?m)^(analytics|api-protection|apm|asm|auth|cli|cm|gtm|ilx|ltm|net|pem|saas|security|sys|vcmp|wam|wom) [a-z].*\{`)

// beyond are the stanzas of files of the corpus that no header line shows: they
// end in a header without a brace.
var beyond = map[string]int{
	"kylinsoong__f5-tmsh-generator__config_unittest.ltm.monitor":                 1,
	"kylinsoong__f5-tmsh-generator__config_unittest.ltm.profile.webacceleration": 1,
	"kylinsoong__f5-tmsh-generator__config_unittest.net.route":                   1,
	"kylinsoong__f5-tmsh-generator__config_unittest.pool":                        1,
	"kylinsoong__f5-tmsh-generator__config_unittest.pool.mess":                   1,
	"kylinsoong__f5-tmsh-generator__config_unittest.sys.ntp":                     1,
	"kylinsoong__f5-tmsh-generator__config_unittest.sys.snmp":                    1,
	"kylinsoong__f5-tmsh-generator__config_unittest.sys.syslog":                  1,
}

// TestProveCorpus reads every file of the corpus: none hangs, and every line
// that looks like a header is a stanza that was read or named.
func TestProveCorpus(t *testing.T) {
	dir := corpusDir(t)
	var total Count
	files, refused, virtuals, warnings := 0, 0, 0, 0
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		start := time.Now()
		c, err := Load(name)
		if took := time.Since(start); took > 5*time.Second+
			time.Duration(len(data))*time.Microsecond {
			t.Errorf("%s took %v", name, took)
		}
		lines := len(headerLine.FindAll(data, -1))
		if err != nil {
			refused++
			if lines > 0 {
				t.Errorf("%v: refused, and has %d headers", err, lines)
			}
			return nil
		}
		account(t, c)
		if n := c.Stanzas.Found - lines; n != beyond[d.Name()] {
			t.Errorf("%s: %d stanzas found, %d lines are headers", name,
				c.Stanzas.Found, lines)
		}
		total.Found, total.Parsed, total.Named = total.Found+c.Stanzas.Found,
			total.Parsed+c.Stanzas.Parsed, total.Named+c.Stanzas.Named
		virtuals, warnings = virtuals+len(c.Virtuals), warnings+len(c.Warnings)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%d files, %d of them no configuration; %d stanzas found: %d parsed, %d "+
		"named; %d virtual servers, %d warnings\n",
		files, refused, total.Found, total.Parsed, total.Named, virtuals, warnings)
}

// counted are the totals of a file of the corpus, counted by a person who read
// it. VLANs are with groups and tunnels.
type counted struct{ Stanzas, Named, Virtuals, Addresses, Selfs, VLANs, Routes, Pools int }

var countedByHand = map[string]counted{
	"acc__test_engines_parser_ex1.conf":                                        {Stanzas: 4},
	"acc__test_engines_parser_ex7.conf":                                        {Stanzas: 2}, // `"() {\"; …"`
	"acc__test_engines_parser_ex8.conf":                                        {Stanzas: 1}, // HTML over many lines
	"acc__test_engines_parser_ex9.conf":                                        {Stanzas: 4}, // a file inside of a string
	"acc__test_engines_parser_ex10.conf":                                       {Stanzas: 6}, // JSON in a string, `regsub -all {"}`
	"acc__test_engines_parser_ex11.conf":                                       {Stanzas: 3}, // `{}`
	"acc__test_engines_parser_ex12.conf":                                       {Stanzas: 3},
	"acc__test_engines_parser_ex13.conf":                                       {Stanzas: 1},           // `}` in column 0 of a string
	"acc__test_engines_parser_ex14.conf":                                       {Stanzas: 7, Pools: 5}, // stanzas in comments, a brace in a comment of a rule
	"acc__test_engines_parser_ex15.conf":                                       {Stanzas: 1},           // blocks without names
	"acc__test_engines_parser_ex16.conf":                                       {Stanzas: 1},           // inner `}` in column 0
	"acc__test_engines_as3Converter_data_group_data_group3.conf":               {Stanzas: 4},           // an indented last brace
	"acc__test_engines_as3Converter_irule_irule.conf":                          {Stanzas: 6},
	"acc__test_engines_as3Converter_irule_irule2.conf":                         {Stanzas: 4, Pools: 2},
	"acc__test_engines_as3Converter_irule_irule3.conf":                         {Stanzas: 1}, // `#fif { [class match`
	"acc__test_engines_as3Converter_irule_irule5.conf":                         {Stanzas: 1}, // quotes in a regular expression
	"acc__test_engines_as3Converter_enforcement_irule_enforcement_irule4.conf": {Stanzas: 1}, // `{\$\{\s*…`
	"acc__test_engines_doConverter_routedomain_routedomain.conf":               {Stanzas: 5, Virtuals: 1, Addresses: 1, Selfs: 1, VLANs: 1},
	"batfish__batfish__tests_parsing-tests_networks_unit-tests_configs_f5_bigip_f5_bigip_structured_malformed": {Stanzas: 7, Selfs: 1, Routes: 3}, // of 5 routes 2 cannot be read
	"batfish__batfish__tests_parsing-tests_networks_unit-tests_configs_f5_bigip_f5_bigip_structured_net":       {Stanzas: 15, Selfs: 2, VLANs: 2, Routes: 1},
	"batfish__f5_bigip_imish_snapshots_bgp_e2e_configs_r2":                                                     {Stanzas: 10, Virtuals: 1, Addresses: 1, Selfs: 1, VLANs: 1, Pools: 1}, // a `!` block
	"batfish__f5_bigip_structured_snapshots_bgp_e2e_configs_r1":                                                {Stanzas: 12, Virtuals: 1, Addresses: 1, Selfs: 1, VLANs: 1, Pools: 1},
	"batfish__f5_bigip_structured_snapshots_dnat_configs_f5_bigip_structured_dnat":                             {Stanzas: 8, Virtuals: 1, Addresses: 1, Selfs: 1, VLANs: 1, Pools: 1},
	"batfish__f5_bigip_structured_testconfigs_f5_bigip_structured_ltm_snat_cases":                              {Stanzas: 13, VLANs: 2},
	"batfish__f5_bigip_structured_testconfigs_f5_bigip_structured_ltm_virtual_cases":                           {Stanzas: 15, Virtuals: 6, Addresses: 4, VLANs: 2, Pools: 1},
	"batfish__f5_bigip_structured_testconfigs_f5_bigip_structured_ltm_virtual_disabled":                        {Stanzas: 23, Virtuals: 3, Addresses: 3, Selfs: 2, VLANs: 1, Pools: 3},
	"f5-corkscrew__tests_archive_generator_archive1_config_bigip_base.conf":                                    {Stanzas: 108, VLANs: 6},
	"f5-corkscrew__tests_archive_generator_archive1_config_bigip_script.conf":                                  {Stanzas: 4},                                       // Tcl with odd quotes
	"f5-corkscrew__tests_archive_generator_archive1_config_partitions_foo_bigip.conf":                          {Stanzas: 14, Virtuals: 4, Addresses: 2, Pools: 2}, // traffic-matching-criteria
	"f5-corkscrew__tests_archive_generator_archive1_config_partitions_foo.a_1-c_bigip.conf":                    {Stanzas: 3, Virtuals: 2, Addresses: 1},
	"f5-corkscrew__tests_archive_generator_archive1_config_partitions_hue-infra_bigip.conf":                    {Stanzas: 9, Virtuals: 2, Addresses: 1, Pools: 2},
	"f5-corkscrew__tests_archive_generator_badArchive1_config_partitions_bd1_bigip.conf":                       {Stanzas: 7, Virtuals: 1, Addresses: 1, Pools: 1},
	"kylinsoong__f5-tmsh-generator__config_issue-25-pool-no-member.txt":                                        {Stanzas: 1, Pools: 1},
	"kylinsoong__f5-tmsh-generator__config_net-vlan-failsafe":                                                  {Stanzas: 1, Named: 1, VLANs: 1},  // a prompt, no end
	"kylinsoong__f5-tmsh-generator__config_test.net.route":                                                     {Stanzas: 2, Routes: 2},           // the pager's traces
	"kylinsoong__f5-tmsh-generator__config_unittest.net.route":                                                 {Stanzas: 3, Named: 1, Routes: 2}, // ends in a header
	"kylinsoong__f5-tmsh-generator__config_unittest.pool.mess":                                                 {Stanzas: 4, Named: 1, Pools: 3},
	"kylinsoong__f5-tmsh-generator__config_unittest.virtual.persist":                                           {Stanzas: 3, Virtuals: 2},
}

// TestCorpus compares what is found in real files with what a person counted in
// them, every hard one among them.
func TestCorpus(t *testing.T) {
	dir := corpusDir(t)
	seen := 0
	for name, want := range countedByHand {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		seen++
		c, err := Parse(name, data)
		if err != nil {
			t.Error(err)
			continue
		}
		got := counted{c.Stanzas.Found, c.Stanzas.Named, len(c.Virtuals), len(c.Addresses),
			len(c.Selfs), len(c.VLANs), len(c.Routes), len(c.Pools)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -counted +found\n%s", name, diff)
		}
	}
	if seen == 0 {
		t.Skip("none of the files that were counted is in ", dir)
	}
	if seen < 20 {
		t.Errorf("%d files were counted, want at least 20", seen)
	}
}
