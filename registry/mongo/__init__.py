"""The registry in MongoDB: collections named `refitd.*` in the user's own database."""
