//! What makes two webhooks the same one.
