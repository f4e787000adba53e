//! What a key may do, and who somebody turned out to be.

use std::collections::BTreeSet;

pub use ffrtmp_api::Scope;

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: probes, the `OpenAPI` document, the CA's certificate.
    Nobody,
    /// Any credential that is in force.
    Anybody,
    /// A key with this scope, or with admin.
    Scope(Scope),
    /// A node's own credential.
    Node,
    /// A join ticket, a node's own credential, or a key with admin: for registering.
    Join,
}

/// Who a request is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nobody in particular: the API is open.
    Anyone,
    /// The holder of the operator's master key.
    Master,
    /// The holder of a key.
    Key {
        /// Public id of the key.
        id: String,
        /// Its name, as its maker chose it.
        name: String,
        /// What it may do.
        scopes: BTreeSet<Scope>,
        /// Requests a second, where it has a limit of its own.
        per_second: Option<u32>,
    },
    /// A node.
    Node {
        /// Its id.
        node: String,
    },
    /// Somebody with a join ticket.
    Ticket {
        /// Public id of the ticket.
        id: String,
    },
}

impl Identity {
    /// Whether this caller may do what is asked for.
    pub fn may(&self, need: Need) -> bool {
        match need {
            Need::Nobody | Need::Anybody => true,
            Need::Scope(scope) => self.has(scope),
            Need::Node => matches!(self, Self::Node { .. }),
            Need::Join => matches!(self, Self::Ticket { .. } | Self::Node { .. }) || self.has(Scope::Admin),
        }
    }

    fn has(&self, scope: Scope) -> bool {
        match self {
            Self::Anyone | Self::Master => true,
            Self::Key { scopes, .. } => {
                scopes.contains(&scope)
                    || scopes.contains(&Scope::Admin)
                    || (scope == Scope::Read && scopes.contains(&Scope::Operate))
            }
            Self::Node { .. } | Self::Ticket { .. } => false,
        }
    }

    /// How the audit log and limits name the caller. Never holds a secret.
    pub fn actor(&self) -> String {
        match self {
            Self::Anyone => "anyone".to_owned(),
            Self::Master => "master".to_owned(),
            Self::Key { id, .. } => format!("key:{id}"),
            Self::Node { node } => format!("node:{node}"),
            Self::Ticket { id } => format!("ticket:{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scopes: &[Scope]) -> Identity {
        Identity::Key {
            id: "i".to_owned(),
            name: "n".to_owned(),
            scopes: scopes.iter().copied().collect(),
            per_second: None,
        }
    }

    #[test]
    fn scopes_give_what_they_say_and_admin_gives_all_but_being_a_node() {
        use Scope::{Admin, Operate, Read, Submit};
        let table = [
            (key(&[Submit]), [true, false, false, false]),
            (key(&[Read]), [false, true, false, false]),
            (key(&[Operate]), [false, true, true, false]),
            (key(&[Admin]), [true, true, true, true]),
            (key(&[]), [false; 4]),
            (Identity::Master, [true; 4]),
            (Identity::Node { node: "n".to_owned() }, [false; 4]),
            (Identity::Ticket { id: "t".to_owned() }, [false; 4]),
        ];
        for (who, expected) in table {
            let may = [Submit, Read, Operate, Admin].map(|scope| who.may(Need::Scope(scope)));
            assert_eq!(may, expected, "{who:?}");
            assert_eq!(
                who.may(Need::Node),
                matches!(who, Identity::Node { .. }),
                "{who:?}"
            );
        }
        assert!(Identity::Ticket { id: "t".to_owned() }.may(Need::Join));
        assert!(!key(&[Operate]).may(Need::Join));
    }
}
