package login

// UserOf returns the name, as it stands in the file, of the user that a login by this name is for, before anything is
// checked. If there is no such user, it returns the name itself.
func (u *Users) UserOf(name string) string {
	if found := u.people.Load().byCanonical[Canonical(name)]; found != nil {
		return found.name
	}
	return name
}

// UserOf calls the mode's UserOf if it has one.
func (t *Throttle) UserOf(name string) string {
	if m, ok := t.mode.(interface{ UserOf(name string) string }); ok {
		return m.UserOf(name)
	}
	return name
}
