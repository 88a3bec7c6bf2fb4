package login

// userOf returns the user that the attempt is for, before anything is checked, if the mode knows such a user, and else the
// name itself.
func userOf(mode Mode, a *Attempt) string {
	switch m := mode.(type) {
	case *Users:
		return m.userOf(a.canonicalName(), a.UserID)
	case interface{ UserOf(name string) string }:
		return m.UserOf(a.UserID)
	}
	return a.UserID
}

// UserOf returns the name, as it stands in the file, of the user that a login by this name is for, before anything is
// checked. If there is no such user, it returns the name itself.
func (u *Users) UserOf(name string) string { return u.userOf(Canonical(name), name) }

func (u *Users) userOf(canonical, name string) string {
	if found := u.people.Load().byCanonical[canonical]; found != nil {
		return found.name
	}
	return name
}
