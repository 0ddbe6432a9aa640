package main

import "lasthop/routing"

type settings struct {
	policy         routing.Policy
	confs, listens []string
	tableNames     bool
	metrics        string
	file           string
}

func (f *flags) settings() (settings, error) {
	p, err := f.policy()
	return settings{policy: p, confs: f.confs, listens: f.listens}, err
}
